"""Where the arrays of a call are: native code looks that up in NumPy's objects.

To ask in Python takes a microsecond for each array. What is read here is what every extension that uses NumPy's or Python's
macros has compiled into it (`PyTuple_GET_ITEM`, `Py_TYPE`, `PyArray_DATA`, `PyArray_DESCR`, `PyArray_FLAGS`), so it does not
change within a version of their interfaces.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn.graph.types import ArrayType

# bytes from the start of an object; after its head an array has its data, the number of axes, pointers to the shape, the
# strides, the base and the dtype, and the flags
_HEAD = object.__basicsize__
_ITEMS = tuple.__basicsize__
_TYPE = _HEAD - 8
_DATA, _DTYPE, _FLAGS = _HEAD, _HEAD + 40, _HEAD + 48
# C_CONTIGUOUS and ALIGNED
_WANTED = 0x101

# i64 gather(table, objects, bases): writes where arrays are among the addresses that a program is run with.
# `objects` is a tuple of arrays, `table` what `table_of` gives. It returns 0, or the number, from 1, of an array that is not
# laid out as kernels read it.
GATHER = f"""
define i64 @asgfn_gather(ptr %table, ptr %objects, ptr %bases) nounwind noinline optnone {{
entry:
  %count = load i64, ptr %table, align 8
  %class.p = getelementptr i64, ptr %table, i64 1
  %class = load ptr, ptr %class.p, align 8
  %items = getelementptr i8, ptr %objects, i64 {_ITEMS}
  br label %look
look:
  %i = phi i64 [ 0, %entry ], [ %next, %good ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %array, label %end
array:
  %next = add i64 %i, 1
  %item.p = getelementptr ptr, ptr %items, i64 %i
  %item = load ptr, ptr %item.p, align 8
  %type.p = getelementptr i8, ptr %item, i64 {_TYPE}
  %type = load ptr, ptr %type.p, align 8
  %is.array = icmp eq ptr %type, %class
  br i1 %is.array, label %read, label %bad
read:
  %two = shl i64 %next, 1
  %number.p = getelementptr i64, ptr %table, i64 %two
  %dtype.p = getelementptr i64, ptr %number.p, i64 1
  %number = load i64, ptr %number.p, align 8
  %dtype = load ptr, ptr %dtype.p, align 8
  %data.p = getelementptr i8, ptr %item, i64 {_DATA}
  %has.dtype.p = getelementptr i8, ptr %item, i64 {_DTYPE}
  %flags.p = getelementptr i8, ptr %item, i64 {_FLAGS}
  %data = load ptr, ptr %data.p, align 8
  %has.dtype = load ptr, ptr %has.dtype.p, align 8
  %flags = load i32, ptr %flags.p, align 4
  %wanted = and i32 %flags, {_WANTED}
  %is.plain = icmp eq i32 %wanted, {_WANTED}
  %is.same = icmp eq ptr %has.dtype, %dtype
  %is.good = and i1 %is.plain, %is.same
  br i1 %is.good, label %good, label %bad
good:
  %base.p = getelementptr ptr, ptr %bases, i64 %number
  store ptr %data, ptr %base.p, align 8
  br label %look
bad:
  ret i64 %next
end:
  ret i64 0
}}
"""


def table_of(arrays: Sequence[tuple[int, np.dtype]]) -> ctypes.Array:
    """What `gather` must know: for each array the number of its address, and its dtype, which must live as long."""
    words = [len(arrays), id(np.ndarray)]
    for number, dtype in arrays:
        words += [number, id(dtype)]
    return (ctypes.c_int64 * len(words))(*words)


def plain(value: Any, t: ArrayType) -> np.ndarray:
    """A copy of an array in the layout that kernels read."""
    found = np.empty(t.shape, t.dtype)
    found[...] = value
    return found
