"""Where the elements of an axis go when it is dilated and padded."""

from __future__ import annotations


def place(size: int, low: int, high: int, dilation: int) -> tuple[int, slice, slice]:
    """Dilates an axis of length `size`, then pads (or, where negative, crops) it.

    Returns:
        the new length, which elements are left, and where they lie.
    """
    length = max((max(size - 1, 0) * dilation + min(size, 1)) + low + high, 0)
    first = max(-(low // dilation), 0)
    last = min((length - 1 - low) // dilation, size - 1)
    if last < first:
        return length, slice(0, 0), slice(0, 0)
    return length, slice(first, last + 1), slice(low + first * dilation, low + last * dilation + 1, dilation)
