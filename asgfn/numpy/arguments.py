"""What every function of `asgfn.numpy` does to its arguments before the work starts.

Three steps, each a function here: refuse what is no array (`check_arraylike`), bring dtypes together by the promotion
lattice (`promote_dtypes`), bring shapes together by broadcasting (`promote_shapes`). `promote_args` is the three in
a row. They emit as few graph nodes as possible: a Python scalar becomes a constant of the final dtype, a rank-0
operand stays rank 0 (element-wise primitives broadcast it), and an operand that already fits is handed through.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.config import config
from asgfn.errors import AxisError, ConcretizationError, DTypeError, NotAnArrayError, ShapeError
from asgfn.graph import ArrayType
from asgfn.primitives.broadcasting import broadcast_shapes as broadcast_shapes
from asgfn.tracing import Array, ConcreteArray, Tracer, as_array
from asgfn.tracing import concrete as concrete_array

ArrayLike = Any  # Array | np.ndarray | np.generic | bool | int | float | complex
DTypeLike = Any  # np.dtype | scalar type | str | None

_ARRAY_LIKE = (Array, np.ndarray, np.generic, bool, int, float, complex)


def check_arraylike(name: str, *args: Any) -> None:
    """Raises `NotAnArrayError` (a TypeError) unless every argument is an array or a scalar."""
    for position, arg in enumerate(args):
        if isinstance(arg, _ARRAY_LIKE) or hasattr(type(arg), "__jax_array__"):
            continue
        which = f", but argument {position} is" if len(args) > 1 else ", got"
        kind = type(arg).__name__
        if isinstance(arg, (list, tuple)):
            fix = f"{kind}s are not accepted, because converting one is slow and hides mistakes: use jnp.asarray(...)"
        elif arg is None:
            fix = "None is not an array: is a return statement or an argument missing?"
        else:
            fix = f"a {kind} is not an array: convert it first, for example with jnp.asarray(...)"
        raise NotAnArrayError(f"{name} takes arrays or scalars{which} {_short(arg)} ({kind}); {fix}")


def _short(x: Any) -> str:
    text = repr(x)
    return text if len(text) <= 40 else text[:37] + "..."


def to_array(name: str, arg: Any) -> Array:
    """`arg` as an Array, its dtype kept (canonical: 32-bit unless x64 is on)."""
    if isinstance(arg, Array):
        return arg
    check_arraylike(name, arg)
    return as_array(arg.__jax_array__() if hasattr(type(arg), "__jax_array__") else arg)


def to_arrays(name: str, *args: Any) -> list[Array]:
    return [to_array(name, arg) for arg in args]


def refuse_out(name: str, out: Any) -> None:
    if out is not None:
        raise NotImplementedError(
            f"{name}: out= is not supported, because arrays are immutable; use the result instead"
        )


# ---------------------------------------------------------------------------------------------------------- dtypes


def convert(x: Any, dtype: np.dtype, weak: bool = False) -> Any:
    """`x` in `dtype`, as an operand: Python and NumPy values become constants instead of conversion nodes."""
    if isinstance(x, Array):
        return x if x.dtype == dtype else lax.convert_element_type(x, dtype, weak)
    if type(x) in _PYTHON_SCALARS:
        return constant(x, dtype, weak)
    if hasattr(type(x), "__jax_array__"):
        return convert(x.__jax_array__(), dtype, weak)
    with np.errstate(all="ignore"):
        return as_array(np.asarray(x).astype(dtype, copy=False))


def constant(x: bool | int | float | complex, dtype: np.dtype, weak: bool = True) -> Array:
    """A Python scalar as a rank-0 array of `dtype`; one object for each value, so that a graph holds it once.

    It is weakly typed unless `weak` is False: then the other operand decides whether the result of an element-wise
    operation is.

    Integers wrap around in narrow dtypes (`uint8(1) + 300` is 45), but must fit 32 bits, or 64 for 64-bit dtypes.
    """
    weak = weak and dtype != np.bool_
    # 0.0 and -0.0 are equal and so are 1, 1.0 and True, but they are not the same constant
    key = (type(x), x if x else repr(x), dtype, weak)
    found = _constants.get(key)
    if found is None:
        found = concrete_array(_scalar_value(x, dtype), ArrayType((), dtype, weak))
        if len(_constants) < 4096:
            _constants[key] = found
    return found


def filled(shape: Sequence[int], value: bool | int | float | complex, dtype: Any) -> Array:
    """An array of a shape filled with a Python scalar, by one node."""
    return lax.broadcast_in_dim(constant(value, np.dtype(dtype), weak=False), tuple(shape), ())


def _scalar_value(x: bool | int | float | complex, dtype: np.dtype) -> np.ndarray:
    if type(x) is int and dtype.kind in "iu":
        bits = max(32, 8 * dtype.itemsize)
        if not -(1 << (bits - 1)) <= x < 1 << bits:
            wider = "; 64-bit dtypes need asgfn.config.update('enable_x64', True)" if dtype.itemsize == 4 else ""
            raise OverflowError(f"Python int {x} is too large to convert to {dtype}{wider}")
        return np.array(x & ((1 << bits) - 1), f"uint{bits}").astype(dtype)
    with np.errstate(all="ignore"):
        return np.array(dtype.type(x), dtype)


_PYTHON_SCALARS = frozenset((bool, int, float, complex))
INEXACT = frozenset(dtype for dtype in dtypes.SUPPORTED if dtypes.is_inexact(dtype))
NUMBERS = INEXACT | frozenset(dtype for dtype in dtypes.SUPPORTED if dtypes.is_integer(dtype))
# the dtypes that a Python number joins without changing them
JOINS: dict[type, frozenset[np.dtype]] = {
    int: NUMBERS,
    float: INEXACT,
    complex: frozenset(dtype for dtype in dtypes.SUPPORTED if dtypes.is_complex(dtype)),
    bool: frozenset((np.dtype(np.bool_),)),
}
_constants: dict[tuple, Array] = {}


def _promoted_directly(args: tuple[Any, ...]) -> list[Any] | None:
    """The arguments if they are arrays of one dtype and Python numbers that join it: the usual case, made cheap."""
    dtype: np.dtype | None = None
    scalars = False
    for arg in args:
        kind = type(arg)
        if kind is Tracer or kind is ConcreteArray:
            found = arg.aval.dtype
            if dtype is None:
                dtype = found
            elif found != dtype:
                return None
        elif kind in JOINS:
            scalars = True
        else:
            return None
    if not scalars:
        return list(args)
    if dtype is None:
        return None
    weak = True
    for arg in args:
        kind = type(arg)
        if kind is Tracer or kind is ConcreteArray:
            weak = weak and arg.aval.weak_type
        elif dtype not in JOINS[kind]:
            return None
    return [constant(arg, dtype, weak) if type(arg) in JOINS else arg for arg in args]


def _plain(x: Any) -> Any:
    """Members of an IntEnum and other subclasses of Python's numbers as the numbers that they are."""
    if isinstance(x, (int, float, complex)) and not isinstance(x, np.generic) and type(x) not in JOINS:
        kind: Callable[[Any], complex] = next(kind for kind in (int, float, complex) if isinstance(x, kind))
        return kind(x)
    return x


def promote_dtypes(*args: Any) -> list[Any]:
    """The arguments in their common dtype."""
    direct = _promoted_directly(args)
    if direct is not None:
        return direct
    args = tuple(map(_plain, args))
    dtype, weak = dtypes.result_type(*args, return_weak=True)
    return [convert(arg, dtype, weak) for arg in args]


def promote_dtypes_inexact(*args: Any) -> list[Any]:
    """The arguments in their common dtype, integers and booleans as float."""
    direct = _promoted_directly(args)
    if direct is not None and direct[0].aval.dtype in INEXACT:
        return direct
    args = tuple(map(_plain, args))
    dtype, weak = dtypes.result_type(*args, return_weak=True)
    dtype = to_inexact(dtype)
    return [convert(arg, dtype, weak) for arg in args]


def to_inexact(dtype: Any) -> np.dtype:
    """`dtype` when it is floating or complex; float64 for 64-bit integers, float32 for the others."""
    dtype = np.dtype(dtype)
    if dtypes.is_inexact(dtype):
        return dtype
    return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)


def numeric(x: Array) -> Array:
    """Booleans as int32, everything else unchanged."""
    return convert(x, np.dtype(np.int32)) if x.dtype == np.bool_ else x


def strong(x: Array) -> Array:
    """`x` with a dtype that wins over Python scalars: reductions forget that their operand was one."""
    return lax.convert_element_type(x, x.dtype) if x.weak_type else x


def computation_dtype(dtype: Any) -> np.dtype:
    """float32 for 16-bit floats: means and variances would overflow or lose their digits in 16 bits."""
    dtype = np.dtype(dtype)
    return np.dtype(np.float32) if dtypes.is_floating(dtype) and dtype.itemsize < 4 else dtype


# ---------------------------------------------------------------------------------------------------------- shapes


def broadcast_operand(x: Any, shape: tuple[int, ...]) -> Any:
    """`x` broadcast to `shape` by one node, or `x` itself when it has that shape."""
    if x.shape == shape:
        return x
    return lax.broadcast_in_dim(x, shape, tuple(range(len(shape) - x.ndim, len(shape))))


def promote_shapes(name: str, *args: Any) -> list[Any]:
    """The arguments with one shape; rank-0 arguments are left alone, for element-wise primitives broadcast them."""
    shapes = {shape for arg in args if (shape := arg.shape)}
    if len(shapes) <= 1:
        return list(args)
    if config.numpy_rank_promotion != "allow" and len({len(shape) for shape in shapes}) > 1:
        _report_rank_promotion(name, shapes)
    shape = broadcast_shapes(*(arg.shape for arg in args), name=name)
    return [broadcast_operand(arg, shape) if arg.ndim else arg for arg in args]


def _report_rank_promotion(name: str, shapes: set[tuple[int, ...]]) -> None:
    message = (
        f"{name}: operands of shapes {', '.join(map(str, sorted(shapes)))} have different ranks, and the setting "
        f"numpy_rank_promotion is {config.numpy_rank_promotion!r}: reshape them explicitly"
    )
    if config.numpy_rank_promotion == "raise":
        raise ShapeError(message)
    warnings.warn(message, stacklevel=4)


def promote_args(name: str, *args: Any) -> list[Any]:
    """Arguments of an element-wise function: checked, in one dtype, in one shape (or rank 0)."""
    direct = _promoted_directly(args)
    if direct is None:
        check_arraylike(name, *args)
        direct = promote_dtypes(*args)
    return promote_shapes(name, *direct) if len(args) > 1 else direct


def promote_args_inexact(name: str, *args: Any) -> list[Any]:
    """`promote_args` for functions that are defined on floating and complex numbers only."""
    direct = _promoted_directly(args)
    if direct is None or direct[0].aval.dtype not in INEXACT:
        check_arraylike(name, *args)
        direct = promote_dtypes_inexact(*args)
    return promote_shapes(name, *direct) if len(args) > 1 else direct


def as_int(name: str, what: str, value: Any) -> int:
    """A static integer argument, such as an axis or a length."""
    try:
        return operator.index(value)
    except ConcretizationError:
        raise ConcretizationError(
            f"{name}: {what} is traced, but must be known while tracing: mark it static with static_argnums"
        ) from None
    except TypeError:
        raise DTypeError(f"{name}: {what} must be an int, got {_short(value)} of type {type(value).__name__}") from None


def as_ints(values: Any) -> tuple[int, ...]:
    """A sequence of numbers, or one alone, as Python ints."""
    return tuple(int(v) for v in ((values,) if np.ndim(values) == 0 else values))


def canonical_shape(name: str, shape: Any) -> tuple[int, ...]:
    """A shape argument (an int or a sequence of ints) as a tuple of Python ints."""
    try:
        if isinstance(shape, Array) and shape.ndim == 1:
            shape = np.asarray(shape)
        if isinstance(shape, str) or not isinstance(shape, Iterable) or getattr(shape, "ndim", 1) == 0:
            shape = (shape,)
        result = tuple(operator.index(size) for size in shape)
    except ConcretizationError:
        raise ConcretizationError(
            f"{name}: the shape depends on a traced value, but shapes must be known while tracing: use x.shape, or "
            "mark the argument static with static_argnums"
        ) from None
    except TypeError:
        raise DTypeError(f"{name}: a shape is an int or a sequence of ints, got {shape!r}") from None
    if any(size < 0 for size in result):
        raise ShapeError(f"{name}: sizes must not be negative, got shape {result}")
    return result


# ------------------------------------------------------------------------------------------------------------ axes


def normalize_axis(name: str, axis: Any, shape: Sequence[int], rank: int | None = None) -> int:
    """`axis` counted from the front; raises `AxisError` when `shape` has no such axis.

    `rank` stands in for len(shape) where the axis counts in another array (`expand_dims`, `stack`).
    """
    rank = len(shape) if rank is None else rank
    index = as_int(name, "axis", axis)
    if not -rank <= index < rank:
        valid = f"valid axes are {-rank} to {rank - 1}" if rank else "a rank-0 array has no axes"
        raise AxisError(f"{name}: axis {index} is out of bounds for an array of shape {tuple(shape)}; {valid}")
    return index % rank


def normalize_axes(name: str, axis: Any, shape: Sequence[int], rank: int | None = None) -> tuple[int, ...]:
    """`axis` (None: all of them, an int, or a sequence) as distinct axes counted from the front."""
    if axis is None:
        return tuple(range(len(shape) if rank is None else rank))
    if isinstance(axis, np.ndarray) and axis.ndim:
        axis = axis.tolist()
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    result = tuple(normalize_axis(name, a, shape, rank) for a in axes)
    if len(set(result)) != len(result):
        raise AxisError(f"{name}: axis {axis} names the same axis twice for an array of shape {tuple(shape)}")
    return result


# ---------------------------------------------------------------------------------------------------------- values


def concrete(name: str, x: Any, hint: str) -> np.ndarray:
    """The NumPy value of `x`, for functions whose result shape depends on it; under `jit` raises with `hint`."""
    try:
        return np.asarray(x)
    except ConcretizationError:
        raise ConcretizationError(f"{name}: {hint}") from None
