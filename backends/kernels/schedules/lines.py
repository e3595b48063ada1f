"""An array as lines along one of its axes: what is sorted, or summed up, by itself."""

from __future__ import annotations

import math

from asgfn.records import record
from backends.kernels.index import Index


@record
class Lines:
    """An array as lines along one axis.

    Attributes:
        shape: of the array.
        axis: along which the lines run.
    """

    shape: tuple[int, ...]
    axis: int

    @property
    def length(self) -> int:
        """Elements of a line."""
        return self.shape[self.axis]

    @property
    def count(self) -> int:
        """Number of lines."""
        return math.prod(self.shape[: self.axis]) * self.inner

    @property
    def inner(self) -> int:
        """How far apart in memory neighbours in a line are; so many lines lie next to each other."""
        return math.prod(self.shape[self.axis + 1 :])

    def place(self, line: Index, i: Index, length: int | None = None) -> Index:
        """The place in memory of the i-th element of a line (of an array whose lines have this length)."""
        n = self.length if length is None else length
        return line.digit(self.inner) * (n * self.inner) + i * self.inner + line.digit(1, self.inner)
