"""Python's operators on arrays: `x + y`, `x < 2`, `-x`, ...

Operators are the hot path of tracing. Operands that need no conversion, two arrays of one dtype and shape (or one of
rank 0), or an array and a Python number, go straight to the primitive; everything else goes through the function of
`asgfn.numpy`, which promotes and broadcasts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import NotAnArrayError
from asgfn.numpy import arithmetic, products, ufuncs
from asgfn.numpy.arguments import INEXACT as _INEXACT
from asgfn.numpy.arguments import JOINS, constant
from asgfn.numpy.arguments import NUMBERS as _NUMBERS
from asgfn.primitives import elementwise as primitives
from asgfn.tracing import Array, ConcreteArray, Tracer, bind

_BOOL = frozenset((np.dtype(np.bool_),))
_INTEGERS = frozenset(dtype for dtype in dtypes.SUPPORTED if dtypes.is_integer(dtype))
_FLOATS = frozenset(dtype for dtype in dtypes.SUPPORTED if dtypes.is_floating(dtype))
_REAL = _INTEGERS | _FLOATS
_ANY = _NUMBERS | _BOOL

_NEVER: frozenset[np.dtype] = frozenset()
_OPERAND = (Array, np.ndarray, np.generic, bool, int, float, complex)


def _is_operand(symbol: str, other: Any) -> bool:
    """Whether the operator applies to `other`; lists and tuples raise, for users expect NumPy to convert them."""
    if isinstance(other, _OPERAND) or hasattr(type(other), "__jax_array__"):
        return True
    if isinstance(other, (list, tuple)):
        raise NotAnArrayError(
            f"unsupported operand for {symbol}: an array and a {type(other).__name__}; "
            f"{type(other).__name__}s are not converted implicitly, write jnp.asarray(...)"
        )
    return False


def _operator(symbol: str, primitive: Any, direct: frozenset[np.dtype], function: Callable) -> Callable:
    """The method for `self <symbol> other`.

    Arguments:
        direct: dtypes on which the primitive does what the operator means.
        function: the promoting function for all other cases.
    """

    def operator(self: Array, other: Any) -> Any:
        kind = type(other)
        mine = self.aval
        if kind is Tracer or kind is ConcreteArray:
            theirs = other.aval
            if mine is theirs:
                if mine.dtype in direct:
                    return bind(primitive, self, other)
            elif (
                mine.dtype == theirs.dtype
                and (mine.shape == theirs.shape or not mine.shape or not theirs.shape)
                and mine.dtype in direct
            ):
                return bind(primitive, self, other)
            return function(self, other)
        dtype = mine.dtype
        if dtype in direct and dtype in JOINS.get(kind, _NEVER):
            return bind(primitive, self, constant(other, dtype, mine.weak_type))
        return function(self, other) if _is_operand(symbol, other) else NotImplemented

    return operator


def _reflected(symbol: str, primitive: Any, direct: frozenset[np.dtype], function: Callable) -> Callable:
    """The method for `other <symbol> self`; `other` is never an Array here."""

    def operator(self: Array, other: Any) -> Any:
        mine = self.aval
        dtype = mine.dtype
        if dtype in direct and dtype in JOINS.get(type(other), _NEVER):
            return bind(primitive, constant(other, dtype, mine.weak_type), self)
        return function(other, self) if _is_operand(symbol, other) else NotImplemented

    return operator


def _promoting(symbol: str, function: Callable) -> tuple[Callable, Callable]:
    """Both methods of an operator that has no single primitive."""

    def operator(self: Array, other: Any) -> Any:
        return function(self, other) if _is_operand(symbol, other) else NotImplemented

    def reflected(self: Array, other: Any) -> Any:
        return function(other, self) if _is_operand(symbol, other) else NotImplemented

    return operator, reflected


def _power(self: Array, other: Any, modulo: None = None) -> Any:
    if modulo is not None:
        return NotImplemented
    if type(other) is int and self.aval.dtype in _INEXACT:
        return primitives.integer_pow(self, other)
    return _promoting_power[0](self, other)


def _reflected_power(self: Array, other: Any, modulo: None = None) -> Any:
    return NotImplemented if modulo is not None else _promoting_power[1](self, other)


_promoting_power = _promoting("**", arithmetic.power)

_DIRECT = (
    # symbol, method, primitive, dtypes, promoting function
    ("+", "add", primitives.add_p, _NUMBERS, ufuncs.add),
    ("-", "sub", primitives.sub_p, _NUMBERS, ufuncs.subtract),
    ("*", "mul", primitives.mul_p, _NUMBERS, ufuncs.multiply),
    ("/", "truediv", primitives.div_p, _INEXACT, ufuncs.divide),
    ("&", "and", primitives.and_p, _BOOL | _INTEGERS, ufuncs.bitwise_and),
    ("|", "or", primitives.or_p, _BOOL | _INTEGERS, ufuncs.bitwise_or),
    ("^", "xor", primitives.xor_p, _BOOL | _INTEGERS, ufuncs.bitwise_xor),
)
_COMPARISONS = (
    ("==", "eq", primitives.eq_p, _ANY, ufuncs.equal),
    ("!=", "ne", primitives.ne_p, _ANY, ufuncs.not_equal),
    ("<", "lt", primitives.lt_p, _REAL | _BOOL, ufuncs.less),
    ("<=", "le", primitives.le_p, _REAL | _BOOL, ufuncs.less_equal),
    (">", "gt", primitives.gt_p, _REAL | _BOOL, ufuncs.greater),
    (">=", "ge", primitives.ge_p, _REAL | _BOOL, ufuncs.greater_equal),
)
_PROMOTING: tuple[tuple[str, str, Callable], ...] = (
    ("//", "floordiv", arithmetic.floor_divide),
    ("%", "mod", arithmetic.remainder),
    ("divmod", "divmod", arithmetic.divmod),
    ("@", "matmul", products.matmul),
    ("<<", "lshift", ufuncs.left_shift),
    (">>", "rshift", ufuncs.right_shift),
)


def operator_methods() -> dict[str, Callable]:
    """The special methods by name."""
    methods: dict[str, Callable] = {
        "__neg__": lambda self: ufuncs.negative(self),
        "__pos__": lambda self: self,
        "__abs__": lambda self: ufuncs.absolute(self),
        "__invert__": lambda self: ufuncs.bitwise_not(self),
        "__pow__": _power,
        "__rpow__": _reflected_power,
    }
    for symbol, name, primitive, direct, function in _DIRECT:
        methods[f"__{name}__"] = _operator(symbol, primitive, direct, function)
        methods[f"__r{name}__"] = _reflected(symbol, primitive, direct, function)
    for symbol, name, primitive, direct, function in _COMPARISONS:  # Python reflects these by swapping them
        methods[f"__{name}__"] = _operator(symbol, primitive, direct, function)
    for symbol, name, function in _PROMOTING:
        methods[f"__{name}__"], methods[f"__r{name}__"] = _promoting(symbol, function)
    for name, method in methods.items():
        method.__name__ = name
    return methods
