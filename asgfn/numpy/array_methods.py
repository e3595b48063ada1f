"""The methods of `asgfn.Array`: operators and the functions of `asgfn.numpy`, installed when this module is imported."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError, ImmutableError, ShapeError
from asgfn.graph import ArrayType
from asgfn.numpy import (
    arithmetic,
    cumulative,
    diagonals,
    dtype_tools,
    indexing,
    joining,
    manipulation,
    products,
    reductions,
    selection,
    sorting,
    ufuncs,
)
from asgfn.numpy.arguments import convert, strong
from asgfn.numpy.creation import copy
from asgfn.numpy.device import to_device
from asgfn.numpy.elementwise import clip
from asgfn.numpy.host_methods import HOST_METHODS
from asgfn.numpy.operators import operator_methods
from asgfn.tracing import Array, ConcreteArray, concrete
from asgfn.tracing.source import user_source

# ------------------------------------------------------------------------------------------------------ as a sequence


def _len(self: Array) -> int:
    if not self.shape:
        raise ShapeError("an array of rank 0 has no len()")
    return self.shape[0]


def _iter(self: Array) -> Iterator[Array]:
    if not self.shape:
        raise ShapeError("an array of rank 0 cannot be iterated over")
    if type(self) is ConcreteArray:
        row_type = ArrayType(self.shape[1:], self.dtype)
        return iter([concrete(np.asarray(row), row_type) for row in self.value])
    return iter(joining.unstack(self))


def _contains(self: Array, item: Any) -> bool:
    return bool(reductions.any(ufuncs.equal(self, item)))


def _getitem(self: Array, index: Any) -> Array:
    return indexing.getitem(self, index)


def _setitem(self: Array, index: Any, value: Any) -> None:
    raise ImmutableError(
        "arrays are immutable: item assignment makes no sense where functions are pure. "
        f"Make a new array instead:\n    {_replacement()}"
    )


_UPDATES = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide", ast.Pow: "power"}


def _replacement() -> str:
    """The user's assignment, rewritten with `.at`."""
    source = user_source()
    line = linecache.getline(source.file, source.line).strip() if source is not None else ""
    try:
        (statement,) = ast.parse(line).body
    except (SyntaxError, ValueError):
        return "x = x.at[index].set(value)"
    target: ast.expr
    method = "set"
    if isinstance(statement, ast.AugAssign):
        target, method = statement.target, _UPDATES.get(type(statement.op), "")
    elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
    else:
        return "x = x.at[index].set(value)"
    if not isinstance(target, ast.Subscript) or not method:
        return "x = x.at[index].set(value)"
    array, index, value = map(ast.unparse, (target.value, target.slice, statement.value))
    return f"{array} = {array}.at[{index.removeprefix('(').removesuffix(')')}].{method}({value})"


# ---------------------------------------------------------------------------------------------------- shape and dtype


def _reshape(self: Array, *args: Any, order: str = "C", copy: bool | None = None, out_sharding: None = None) -> Array:
    """`x.reshape(2, 3)` or `x.reshape((2, 3))`; see `asgfn.numpy.reshape`."""
    shape = args[0] if len(args) == 1 else args
    return manipulation.reshape(self, shape, order, copy=copy)


def _transpose(self: Array, *args: Any) -> Array:
    """`x.transpose()`, `x.transpose(1, 0)` or `x.transpose((1, 0))`; see `asgfn.numpy.transpose`."""
    axes = args[0] if len(args) == 1 and not isinstance(args[0], int) else (args or None)
    return manipulation.transpose(self, axes)


def _flatten(self: Array, order: str = "C") -> Array:
    """The elements as a vector."""
    return manipulation.ravel(self, order)


def _astype(self: Array, dtype: Any, copy: bool = False, device: Any = None) -> Array:
    """The array converted to `dtype`; see `asgfn.numpy.astype`."""
    return dtype_tools.astype(self, dtype, copy=copy, device=device)


def _view(self: Array, dtype: Any = None, type: None = None) -> Array:
    """The same bits as another dtype; the last axis grows or shrinks with the width."""
    if type is not None:
        raise NotImplementedError("view: the argument type= is not supported")
    if dtype is None:
        return self
    target = dtypes.canonicalize(dtype)
    if target == self.dtype:
        return strong(self)
    if np.bool_ in (target, self.dtype):
        if target.itemsize != self.dtype.itemsize:
            raise DTypeError(f"view: {self.dtype} and {target} have different widths")
        return convert(self, target) if self.dtype == np.bool_ else ufuncs.not_equal(self, 0)
    if dtypes.is_complex(self.dtype):
        parts = lax.concatenate(
            [lax.expand_dims(part, (self.ndim,)) for part in (lax.real(self), lax.imag(self))], self.ndim
        )
        return _view(lax.reshape(parts, (*self.shape[:-1], 2 * self.shape[-1]) if self.ndim else (2,)), target)
    if dtypes.is_complex(target):
        halves = _view(self, dtypes.real_dtype(target))
        halves = lax.reshape(halves, (*halves.shape[:-1], halves.shape[-1] // 2, 2))
        return lax.complex(*joining.unstack(halves, axis=-1))
    old, new = self.dtype.itemsize, target.itemsize
    if old == new:
        return lax.bitcast_convert_type(self, target)
    if not self.ndim:
        raise ShapeError(
            f"view: an array of rank 0 cannot be viewed as {target}, which has another width than {self.dtype}"
        )
    last = self.shape[-1]
    if old > new:
        return lax.reshape(lax.bitcast_convert_type(self, target), (*self.shape[:-1], last * (old // new)))
    if last * old % new:
        raise ShapeError(f"view: a last axis of {last} x {old} bytes does not divide into {target} ({new} bytes)")
    grouped = lax.reshape(self, (*self.shape[:-1], last * old // new, new // old))
    return lax.bitcast_convert_type(grouped, target)


def _copy(self: Array, order: str | None = None) -> Array:
    """A copy; arrays are immutable, so this matters only to `donate_argnums`."""
    return copy(self)


def _conj(self: Array) -> Array:
    """The complex conjugate."""
    return ufuncs.conjugate(self)


def _round(self: Array, decimals: int | None = None) -> Any:
    """`round(x)`: a Python int for an integral concrete scalar would hide the dtype, so the result is an Array."""
    return arithmetic.round(self, 0 if decimals is None else decimals)


def _array_namespace(self: Array, *, api_version: str | None = None) -> ModuleType:
    """The module `asgfn.numpy` (array API standard).

    Raises:
        ValueError: a version of the standard that the module does not follow.
    """
    supported = ("2021.12", "2022.12", "2023.12", "2024.12")
    if api_version is not None and api_version not in supported:
        raise ValueError(f"array API version {api_version!r} is not supported; there are {', '.join(supported)}")
    return sys.modules["asgfn.numpy"]


def _to_device(self: Array, device: Any, /, *, stream: Any = None) -> Array:
    """The array on another device (array API standard)."""
    return to_device(self, device)


# --------------------------------------------------------------------------------------------------------- properties


def _flat(self: Array) -> Array:
    """The elements as a vector, to be indexed."""
    return manipulation.ravel(self)


_PROPERTIES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "T": (lambda self: manipulation.transpose(self), "The array with its axes reversed."),
    "mT": (lambda self: manipulation.matrix_transpose(self), "The array with its last two axes swapped."),
    "real": (lambda self: ufuncs.real(self), "The real part."),
    "imag": (lambda self: ufuncs.imag(self), "The imaginary part."),
    "flat": (_flat, "The elements as a vector."),
    "at": (
        lambda self: indexing.IndexUpdateHelper(self),
        "`x.at[index].set(values)` and its kin: a new array with some elements changed.",
    ),
}

_METHODS: dict[str, Callable] = {
    "__len__": _len,
    "__iter__": _iter,
    "__contains__": _contains,
    "__getitem__": _getitem,
    "__setitem__": _setitem,
    "__round__": _round,
    "__copy__": lambda self: self,
    "__deepcopy__": lambda self, memo: self,
    "__array_namespace__": _array_namespace,
    "to_device": _to_device,
    "reshape": _reshape,
    "transpose": _transpose,
    "flatten": _flatten,
    "astype": _astype,
    "view": _view,
    "copy": _copy,
    "conj": _conj,
    "conjugate": _conj,
    "clip": lambda self, min=None, max=None: clip(self, min, max),
}

# These take the array as their first argument and serve as methods as they are.
_FUNCTIONS = {
    reductions: ("all", "any", "argmax", "argmin", "max", "mean", "min", "prod", "ptp", "std", "sum", "var"),
    cumulative: ("cumprod", "cumsum"),
    manipulation: ("ravel", "squeeze", "swapaxes"),
    diagonals: ("diagonal", "trace"),
    sorting: ("argpartition", "argsort", "partition", "sort", "searchsorted"),
    selection: ("choose", "nonzero"),
    joining: ("repeat",),
    indexing: ("take",),
    products: ("dot",),
    arithmetic: ("round",),
}


def _compress(self: Array, condition: Any, axis: int | None = None, out: None = None, **options: Any) -> Array:
    """The slices of the array along `axis` where `condition` holds; see `asgfn.numpy.compress`."""
    return selection.compress(condition, self, axis, out=out, **options)


def install() -> None:
    """Gives `Array` its operators, methods and properties, and concrete arrays what needs a value."""
    methods: dict[str, Callable] = {**operator_methods(), **_METHODS, "compress": _compress}
    for module, names in _FUNCTIONS.items():
        methods.update({name: getattr(module, name) for name in names})
    for name, method in methods.items():
        setattr(Array, name, method)
    for name, (getter, doc) in _PROPERTIES.items():
        setattr(Array, name, property(getter, doc=doc))
    for name, method in HOST_METHODS.items():
        setattr(ConcreteArray, name, method)
    Array.__hash__ = None  # type: ignore[assignment]  # arrays compare element by element


install()
