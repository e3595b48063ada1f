"""Making arrays from data, from a shape and a value, and from other arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError, ShapeError
from asgfn.graph import ArrayType
from asgfn.numpy.arguments import (
    ArrayLike,
    DTypeLike,
    broadcast_operand,
    broadcast_shapes,
    canonical_shape,
    constant,
    convert,
    filled,
    to_array,
)
from asgfn.numpy.device import to_device
from asgfn.primitives.shaping import copy_p
from asgfn.tracing import Array, ConcreteArray, as_array
from asgfn.tracing import concrete as concrete_array

Shape = int | Sequence[int]
_PYTHON_SCALARS = (bool, int, float, complex)


# ------------------------------------------------------------------------------------------------------- from data


def array(
    object: Any,
    dtype: DTypeLike = None,
    copy: bool | None = True,
    order: str | None = "K",
    ndmin: int = 0,
    *,
    device: Any = None,
    out_sharding: None = None,
) -> Array:
    """An Array from scalars, (nested) sequences, NumPy arrays, Arrays, and anything with `__array__` or a buffer.

    Arguments:
        dtype: dtype of the result; by default that of the data, Python numbers being the default int or float.
        copy: an Array that is given comes back as another one with memory of its own.
        ndmin: least number of axes; missing ones are put in front.
        device: where to put it.

    Raises:
        ShapeError: the sequences are ragged.
        DTypeError: the data is not numeric.
    """
    if dtype is not None:
        dtype = dtypes.canonicalize(dtype)
    result = _from_anything(object, dtype)
    if result.ndim < ndmin:
        result = lax.reshape(result, (1,) * (ndmin - result.ndim) + result.shape)
    if copy and result is object and type(result) is ConcreteArray:  # donating one must not delete the other
        result = _copied(result)
    return to_device(result, device) if device is not None else result


def asarray(
    a: Any,
    dtype: DTypeLike = None,
    order: str | None = None,
    *,
    copy: bool | None = None,
    device: Any = None,
    out_sharding: None = None,
) -> Array:
    """`array` that returns `a` itself when it is an Array of the right dtype already.

    Raises:
        ValueError: `copy=False` and the data has to be copied (it is no Array, or its dtype changes).
    """
    result = array(a, dtype, copy=bool(copy), order=order, device=device)
    if copy is False and not _shares(a, result):
        raise ValueError(
            f"asarray: copy=False, but a {type(a).__name__} cannot become an Array of dtype {result.dtype} without a copy"
        )
    return result


def _shares(a: Any, result: Array) -> bool:
    return result is a or (isinstance(a, Array) and getattr(result, "buffer", None) is getattr(a, "buffer", result))


def _copied(x: Array) -> Array:
    return copy_p.bind(x)


def _from_anything(data: Any, dtype: np.dtype | None) -> Array:
    if isinstance(data, Array):
        return convert(data, dtype) if dtype is not None else data
    if isinstance(data, _PYTHON_SCALARS) and not isinstance(data, np.generic):
        # weak unless a dtype was asked for
        return as_array(data) if dtype is None else _scalar(_plain(data), dtype)
    if hasattr(type(data), "__jax_array__"):
        return _from_anything(data.__jax_array__(), dtype)
    if isinstance(data, (list, tuple)):
        return _from_sequence(data, dtype)
    if isinstance(data, (np.ndarray, np.generic)):
        return _from_numpy(data, dtype)
    if hasattr(data, "__array__"):
        return _from_numpy(np.asarray(data), dtype)
    if hasattr(data, "__dlpack__"):
        return _from_numpy(np.from_dlpack(data), dtype)
    if isinstance(data, (bytes, bytearray, memoryview)):
        return _from_numpy(np.array(memoryview(data)), dtype)
    if (
        isinstance(data, (range, Iterable))
        and not isinstance(data, (str, dict, set, frozenset))
        and hasattr(data, "__len__")
    ):
        return _from_sequence(list(data), dtype)
    raise DTypeError(f"array: a {type(data).__name__} cannot become an array: {data!r:.80}")


def _scalar(x: bool | int | float | complex, dtype: np.dtype) -> Array:
    if type(x) is int and dtypes.is_integer(dtype):
        try:
            np.array(x, dtype)  # an explicit dtype must hold the number; only operands of operators wrap around
        except OverflowError:
            raise OverflowError(f"array: Python int {x} is out of bounds for {dtype}") from None
    return constant(x, dtype, weak=False)


def _plain(x: Any) -> bool | int | float | complex:
    """Subclasses of Python numbers (enums, ...) as what they are."""
    kind: Callable[[Any], complex] = next(kind for kind in _PYTHON_SCALARS if isinstance(x, kind))
    return kind(x)


def _from_numpy(data: Any, dtype: np.dtype | None) -> Array:
    if data.dtype.kind in "OSUMm" or data.dtype.names:
        raise DTypeError(f"array: dtype {data.dtype} is not supported; arrays hold booleans and numbers")
    if dtype is None:
        return as_array(np.asarray(data))
    with np.errstate(all="ignore"):
        # a copy of its own: the caller may write to the data later
        value = np.array(_real_if_asked(np.asarray(data), dtype), dtype=dtype, copy=True)
    return concrete_array(value, ArrayType(value.shape, dtype))


def _real_if_asked(data: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return data.real if data.dtype.kind == "c" and not dtypes.is_complex(dtype) and dtype != np.bool_ else data


def _from_sequence(data: Sequence[Any], dtype: np.dtype | None) -> Array:
    leaves: list[Any] = []
    shape = _collect(data, leaves, ())
    if not any(isinstance(leaf, Array) for leaf in leaves):
        return _from_numpy_sequence(data, leaves, dtype)
    # some elements are Arrays, perhaps traced: stack them
    if dtype is None:
        dtype = dtypes.result_type(*leaves)
    parts = [convert(to_array("array", leaf), dtype) for leaf in leaves]
    inner = parts[0].shape
    if any(part.shape != inner for part in parts):
        raise ShapeError(f"array: elements have different shapes: {sorted({part.shape for part in parts})}")
    joined = lax.concatenate([lax.reshape(part, (1, *inner)) for part in parts], 0)
    return _strong(lax.reshape(joined, (*shape, *inner)))


def _collect(data: Any, leaves: list[Any], path: tuple[int, ...]) -> tuple[int, ...]:
    """Appends the innermost elements to `leaves`; returns the shape of the nesting."""
    if not isinstance(data, (list, tuple)):
        leaves.append(data)
        return ()
    shapes = {_collect(item, leaves, (*path, i)) for i, item in enumerate(data)}
    if len(shapes) > 1:
        where = "".join(f"[{i}]" for i in path)
        raise ShapeError(f"array: the sequence{where} is ragged: its elements have shapes {sorted(shapes)}")
    return (len(data), *(shapes.pop() if shapes else ()))


def _from_numpy_sequence(data: Any, leaves: list[Any], dtype: np.dtype | None) -> Array:
    leaf_types = {type(leaf) for leaf in leaves}
    for kind in leaf_types:
        if kind is type(None) or issubclass(kind, (str, bytes, dict, set)):
            raise DTypeError(f"array: the sequence holds a {kind.__name__}, which is not a number")
    if dtype is None and leaf_types <= set(_PYTHON_SCALARS):
        dtype = _python_dtype(leaf_types)
    elif dtype is None and leaves:
        known = (*_PYTHON_SCALARS, np.generic)
        dtype = dtypes.result_type(*(leaf if isinstance(leaf, known) else np.asarray(leaf) for leaf in leaves))
    elif dtype is None:
        dtype = dtypes.default_float()
    try:
        with np.errstate(all="ignore"):
            value = (
                np.array(data)
                if (complex in leaf_types and not dtypes.is_complex(dtype))
                or (float in leaf_types and not dtypes.is_inexact(dtype))
                else np.array(data, dtype)
            )
            value = _real_if_asked(value, dtype).astype(dtype, copy=False)
    except OverflowError:
        raise OverflowError(f"array: an element is too large for {dtype}") from None
    except ValueError as error:
        raise ShapeError(f"array: {error}") from None
    if value.dtype == object:
        raise DTypeError("array: the data is not numeric")
    return concrete_array(value, ArrayType(value.shape, dtype))


def _python_dtype(kinds: set[type]) -> np.dtype:
    if complex in kinds:
        return dtypes.default_complex()
    if float in kinds or not kinds:
        return dtypes.default_float()
    return dtypes.default_int() if int in kinds else np.dtype(np.bool_)


def copy(a: ArrayLike, order: str | None = None) -> Array:
    """A copy of `a`. Arrays are immutable, so this matters only to `donate_argnums`."""
    return _copied(to_array("copy", a))


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Array:
    """An Array from an object that speaks DLPack (torch, CuPy, NumPy, ...). The data is copied.

    Raises:
        ValueError: `copy=False`, since the other library may write to its memory.
    """
    if isinstance(x, Array):
        return _copied(x) if copy else x
    if copy is False:
        raise ValueError("from_dlpack: copy=False is not supported, for arrays are immutable and other memory is not")
    return _from_numpy(np.from_dlpack(x), None)


def frombuffer(buffer: bytes | Any, dtype: DTypeLike = float, count: int = -1, offset: int = 0) -> Array:
    """A vector from raw bytes (or an object with the buffer protocol)."""
    return _from_numpy(np.frombuffer(buffer, dtypes.canonicalize(dtype), count, offset), None)


def fromiter(iter: Iterable[Any], dtype: DTypeLike, count: int = -1) -> Array:
    """A vector from an iterable of numbers."""
    return _from_numpy(np.fromiter(iter, dtypes.canonicalize(dtype), count), None)


def fromstring(string: str, dtype: DTypeLike = float, count: int = -1, *, sep: str) -> Array:
    """A vector from numbers in text, separated by `sep`."""
    return _from_numpy(np.fromstring(string, dtypes.canonicalize(dtype), count, sep=sep), None)


def fromfile(
    file: str | os.PathLike, dtype: DTypeLike = float, count: int = -1, sep: str = "", offset: int = 0
) -> Array:
    """A vector from a file of raw numbers, or of text when `sep` is given."""
    return _from_numpy(np.fromfile(file, dtypes.canonicalize(dtype), count, sep, offset), None)


# ------------------------------------------------------------------------------------------- from a shape and a value


def _filled(name: str, shape: Shape, value: Any, dtype: np.dtype, device: Any) -> Array:
    result = filled(canonical_shape(name, shape), value, dtype)
    return to_device(result, device) if device is not None else result


def zeros(shape: Shape, dtype: DTypeLike = None, *, device: Any = None, out_sharding: None = None) -> Array:
    """Zeros of a shape; float32 unless `dtype` says otherwise."""
    return _filled("zeros", shape, 0, _float_unless(dtype), device)


def ones(shape: Shape, dtype: DTypeLike = None, *, device: Any = None, out_sharding: None = None) -> Array:
    """Ones of a shape; float32 unless `dtype` says otherwise."""
    return _filled("ones", shape, 1, _float_unless(dtype), device)


def empty(shape: Shape, dtype: DTypeLike = None, *, device: Any = None, out_sharding: None = None) -> Array:
    """An array of a shape whose values do not matter: zeros."""
    return _filled("empty", shape, 0, _float_unless(dtype), device)


def _float_unless(dtype: DTypeLike) -> np.dtype:
    return dtypes.default_float() if dtype is None else dtypes.canonicalize(dtype)


def full(
    shape: Shape, fill_value: ArrayLike, dtype: DTypeLike = None, *, device: Any = None, out_sharding: None = None
) -> Array:
    """An array of a shape filled with a value, which may be an array that broadcasts to the shape.

    The dtype is the value's unless given.
    """
    shape = canonical_shape("full", shape)
    weak = dtype is None and type(fill_value) in _PYTHON_SCALARS
    value = to_array("full", fill_value)
    if dtype is not None:
        value = (
            convert(value, dtypes.canonicalize(dtype)) if isinstance(fill_value, Array) else array(fill_value, dtype)
        )
    if broadcast_shapes(value.shape, shape, name="full") != shape:
        raise ShapeError(f"full: a fill value of shape {value.shape} does not broadcast to shape {shape}")
    result = broadcast_operand(value, shape) if weak else broadcast_operand(_strong(value), shape)
    return to_device(result, device) if device is not None else result


def _strong(x: Array) -> Array:
    return lax.convert_element_type(x, x.dtype)


def _like(name: str, a: Any, value: Any, dtype: DTypeLike, shape: Shape | None, device: Any) -> Array:
    if not (hasattr(a, "shape") and hasattr(a, "dtype")):
        a = to_array(name, a)
    aval = getattr(a, "aval", None)
    weak = dtype is None and aval is not None and aval.weak_type
    dtype = dtypes.canonicalize(a.dtype if dtype is None else dtype)
    shape = tuple(a.shape) if shape is None else canonical_shape(name, shape)
    result = lax.broadcast_in_dim(constant(value, dtype, weak), shape, ())
    return to_device(result, device) if device is not None else result


def zeros_like(
    a: ArrayLike, dtype: DTypeLike = None, shape: Shape | None = None, *, device: Any = None, out_sharding: None = None
) -> Array:
    """Zeros of the shape and dtype of `a`, unless given."""
    return _like("zeros_like", a, 0, dtype, shape, device)


def ones_like(
    a: ArrayLike, dtype: DTypeLike = None, shape: Shape | None = None, *, device: Any = None, out_sharding: None = None
) -> Array:
    """Ones of the shape and dtype of `a`, unless given."""
    return _like("ones_like", a, 1, dtype, shape, device)


def empty_like(
    prototype: ArrayLike,
    dtype: DTypeLike = None,
    shape: Shape | None = None,
    *,
    device: Any = None,
    out_sharding: None = None,
) -> Array:
    """An array of the shape and dtype of `prototype`, unless given, whose values do not matter: zeros."""
    return _like("empty_like", prototype, 0, dtype, shape, device)


def full_like(
    a: ArrayLike,
    fill_value: ArrayLike,
    dtype: DTypeLike = None,
    shape: Shape | None = None,
    *,
    device: Any = None,
    out_sharding: None = None,
) -> Array:
    """An array of the shape and dtype of `a`, unless given, filled with a value that broadcasts to the shape."""
    if type(fill_value) in _PYTHON_SCALARS:
        return _like("full_like", a, fill_value, dtype, shape, device)
    if not (hasattr(a, "shape") and hasattr(a, "dtype")):
        a = to_array("full_like", a)
    shape = tuple(a.shape) if shape is None else shape
    return full(shape, fill_value, a.dtype if dtype is None else dtype, device=device)


def fromfunction(function: Callable[..., Any], shape: Shape, *, dtype: DTypeLike = float, **kwargs: Any) -> Any:
    """`function(i, j, ...)` of the index grids of a shape."""
    shape = canonical_shape("fromfunction", shape)
    dtype = dtypes.canonicalize(dtype)
    grids = [lax.broadcasted_iota(dtype, shape, axis) for axis in range(len(shape))]
    return function(*grids, **kwargs)
