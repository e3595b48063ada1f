"""Arrays as text, and in NumPy's file formats."""

from __future__ import annotations

from typing import Any

import numpy as np

from asgfn.numpy.arguments import ArrayLike, to_array
from asgfn.numpy.creation import asarray
from asgfn.tracing import Array


def array_repr(
    arr: ArrayLike, max_line_width: int | None = None, precision: int | None = None, suppress_small: bool | None = None
) -> str:
    """The text `Array([...], dtype=...)`."""
    value = np.asarray(to_array("array_repr", arr))
    body = np.array2string(
        value,
        max_line_width=max_line_width,
        precision=precision,
        suppress_small=suppress_small,
        separator=", ",
        prefix="Array(",
    )
    return f"Array({body}, dtype={value.dtype.name})"


def array_str(
    a: ArrayLike, max_line_width: int | None = None, precision: int | None = None, suppress_small: bool | None = None
) -> str:
    """The elements as text."""
    return np.array_str(np.asarray(to_array("array_str", a)), max_line_width, precision, suppress_small)


def save(file: Any, arr: ArrayLike, allow_pickle: bool = True) -> None:
    """Writes an array to a `.npy` file."""
    np.save(file, np.asarray(to_array("save", arr)), allow_pickle=allow_pickle)


def savez(file: Any, *args: ArrayLike, allow_pickle: bool = True, **kwds: ArrayLike) -> None:
    """Writes arrays to a `.npz` file, under the names of the arguments (`arr_0`, ... for positional ones)."""
    named = {name: np.asarray(to_array("savez", value)) for name, value in kwds.items()}
    np.savez(file, *(np.asarray(to_array("savez", value)) for value in args), allow_pickle=allow_pickle, **named)


def load(file: Any, *args: Any, **kwargs: Any) -> Array | Any:
    """The array of a `.npy` file; of a `.npz` file NumPy's mapping from names to NumPy arrays."""
    found = np.load(file, *args, **kwargs)
    if not isinstance(found, np.ndarray):
        return found
    # NumPy has no name for bfloat16 and reads it back as two raw bytes
    return asarray(found.view("bfloat16") if found.dtype.str == "|V2" else found)
