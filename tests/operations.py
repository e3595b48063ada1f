"""The table of operations: what every primitive is tested with.

An entry says how to call the operation, on which sample inputs, in which dtypes, what NumPy (or SciPy) says the result is,
and whether it has derivatives to check. `test_operations.py` derives the tests; other backends run the same table.
A new primitive that is missing here fails the suite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special

from asgfn import lax
from asgfn.primitives import convolution, linalg
from asgfn.primitives.base import primitive

FLOATS = ("float32", "float64", "float16", "bfloat16")
WIDE = ("float32", "float64")
COMPLEX = ("complex64", "complex128")
INTS = ("int32", "int8", "uint8", "uint32", "int64")
BOOL = ("bool",)


@dataclass(frozen=True)
class Operation:
    """One row of the table.

    Attributes:
        primitive: the primitive's name; a primitive may have several rows.
        f: the operation as a function of arrays.
        samples: argument tuples, as float64 (or integer, boolean) NumPy arrays.
        dtypes: dtypes to which floating samples are converted; integer and boolean ones stay as they are.
        reference: the same function in NumPy or SciPy, evaluated in float64; None where other tests hold the reference.
        smooth: positions of the arguments with derivatives.
        label: tells rows of one primitive apart.
        tolerance: how much larger than usual errors may be.
        orders: how many times it can be differentiated.
    """

    primitive: str
    f: Callable
    samples: Sequence[tuple]
    dtypes: Sequence[str] = WIDE
    reference: Callable | None = None
    smooth: tuple[int, ...] = ()
    label: str = ""
    tolerance: float = 1.0
    orders: int = 2

    @property
    def id(self) -> str:
        return self.primitive + (f"-{self.label}" if self.label else "")


_rng = np.random.default_rng(7)


def inside(low: float, high: float, shape: tuple[int, ...] = (2, 3)) -> np.ndarray:
    """Distinct values strictly inside an interval, in random order."""
    n = int(np.prod(shape, dtype=int))
    return _rng.permutation(np.linspace(low, high, n + 2)[1:-1]).reshape(shape)


def integers(low: int, high: int, shape: tuple[int, ...] = (2, 3), dtype: str = "int32") -> np.ndarray:
    return _rng.integers(low, high, shape).astype(dtype)


def _unary(
    name: str,
    reference: Callable,
    low: float,
    high: float,
    dtypes: Sequence[str] = FLOATS,
    smooth: bool = True,
    f: Callable | None = None,
    **more: Any,
) -> Operation:
    samples = [(inside(low, high),), (inside(low, high, ()),), (inside(low, high, (0, 2)),)]
    return Operation(name, f or getattr(lax, name), samples, dtypes, reference, (0,) if smooth else (), **more)


def _binary(
    name: str,
    reference: Callable,
    a: tuple,
    b: tuple,
    dtypes: Sequence[str] = FLOATS,
    smooth: tuple = (0, 1),
    **more: Any,
) -> Operation:
    samples = [(inside(*a), inside(*b)), (inside(*a), inside(*b, ())), (inside(*a, ()), inside(*b))]
    return Operation(name, getattr(lax, name), samples, dtypes, reference, smooth, **more)


UNARY = [
    _unary("neg", np.negative, -2, 2, FLOATS + COMPLEX),
    _unary("sign", np.sign, -2, 2.5),
    _unary("abs", np.abs, -2, 2.5),
    _unary("floor", np.floor, -2, 2.5),
    _unary("ceil", np.ceil, -2, 2.5),
    _unary("round", np.rint, -2.3, 2.1, f=lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN), label="even"),
    _unary("round", lambda x: np.trunc(x + np.copysign(0.5, x)), -2.3, 2.1, f=lax.round, label="away"),
    _unary("square", np.square, -2, 2, FLOATS + COMPLEX),
    _unary("integer_pow", lambda x: x**3, -2, 2.5, FLOATS + COMPLEX, f=lambda x: lax.integer_pow(x, 3), label="3"),
    _unary("integer_pow", lambda x: x**-2.0, 0.5, 2.5, FLOATS, f=lambda x: lax.integer_pow(x, -2), label="-2"),
    _unary("is_finite", np.isfinite, -2, 2),
    _unary("exp", np.exp, -2, 2, FLOATS + COMPLEX),
    _unary("exp2", np.exp2, -2, 2),
    _unary("expm1", np.expm1, -2, 2),
    _unary("log", np.log, 0.1, 4, FLOATS + COMPLEX),
    _unary("log1p", np.log1p, -0.8, 4),
    _unary("logistic", scipy.special.expit, -4, 4),
    _unary("sqrt", np.sqrt, 0.1, 4, FLOATS + COMPLEX),
    _unary("rsqrt", lambda x: 1 / np.sqrt(x), 0.1, 4),
    _unary("cbrt", np.cbrt, 0.1, 4),
    _unary("sin", np.sin, -4, 4, FLOATS + COMPLEX),
    _unary("cos", np.cos, -4, 4, FLOATS + COMPLEX),
    _unary("tan", np.tan, -1.3, 1.3, FLOATS + COMPLEX),
    _unary("asin", np.arcsin, -0.9, 0.9),
    _unary("acos", np.arccos, -0.9, 0.9),
    _unary("atan", np.arctan, -3, 3),
    _unary("sinh", np.sinh, -2, 2, FLOATS + COMPLEX),
    _unary("cosh", np.cosh, -2, 2, FLOATS + COMPLEX),
    _unary("tanh", np.tanh, -2, 2, FLOATS + COMPLEX),
    _unary("asinh", np.arcsinh, -3, 3),
    _unary("acosh", np.arccosh, 1.2, 4),
    _unary("atanh", np.arctanh, -0.9, 0.9),
    _unary("erf", scipy.special.erf, -2, 2),
    _unary("erfc", scipy.special.erfc, -2, 2),
    _unary("erf_inv", scipy.special.erfinv, -0.9, 0.9),
    _unary("lgamma", scipy.special.gammaln, 0.3, 5),
    _unary("digamma", scipy.special.digamma, 0.3, 5, tolerance=4),
    _unary("bessel_i0e", scipy.special.i0e, -4, 4.5),
    _unary("bessel_i1e", scipy.special.i1e, 0.2, 4.5),
    _unary("copy", lambda x: x, -1, 1, f=lambda x: primitive("copy").bind(x)),
    _unary("stop_gradient", lambda x: x, -1, 1, smooth=False),
    _unary("name", lambda x: x, -1, 1, f=lambda x: primitive("name").bind(x, name="value")),
    _unary(
        "reduce_precision",
        lambda x: x.astype(np.float32).astype(np.float16).astype(float),
        -2,
        2,
        WIDE,
        smooth=False,
        f=lambda x: lax.reduce_precision(x, 5, 10),
    ),
]

BINARY = [
    _binary("add", np.add, (-2, 2), (-2, 2), FLOATS + COMPLEX),
    _binary("sub", np.subtract, (-2, 2), (-2, 2), FLOATS + COMPLEX),
    _binary("mul", np.multiply, (-2, 2), (-2, 2), FLOATS + COMPLEX),
    _binary("div", np.divide, (-2, 2), (0.5, 2), FLOATS + COMPLEX),
    _binary("rem", np.fmod, (0.1, 9), (1.3, 2.2), WIDE),
    _binary("max", np.maximum, (-2, 2), (-1.7, 1.9)),
    _binary("min", np.minimum, (-2, 2), (-1.7, 1.9)),
    _binary("atan2", np.arctan2, (-2, 2), (0.3, 2)),
    _binary("pow", np.power, (0.3, 2), (-2, 2.2)),
    _binary("nextafter", np.nextafter, (-2, 2), (3, 4), ("float64",), smooth=()),
    _binary("igamma", scipy.special.gammainc, (0.6, 4), (0.4, 5), WIDE, tolerance=4, orders=1),
    _binary("igammac", scipy.special.gammaincc, (0.6, 4), (0.4, 5), WIDE, tolerance=4, orders=1),
    _binary("zeta", scipy.special.zeta, (1.5, 4), (0.5, 4), WIDE, smooth=(1,), tolerance=4),
    Operation(
        "polygamma",
        lax.polygamma,
        [(np.float64([1, 2, 0]), inside(0.5, 4, (3,)))],
        WIDE,
        lambda n, x: scipy.special.polygamma(n.astype(int), x),
        (1,),
        tolerance=4,
    ),
    Operation("igamma_grad_a", lax.igamma_grad_a, [(inside(0.6, 4), inside(0.4, 5))], ("float64",)),
    Operation("random_gamma_grad", lax.random_gamma_grad, [(inside(0.6, 4), inside(0.4, 5))], ("float64",)),
    Operation(
        "regularized_incomplete_beta",
        lax.betainc,
        [(inside(0.6, 3), inside(0.7, 3), inside(0.1, 0.9))],
        WIDE,
        scipy.special.betainc,
        (2,),
        tolerance=4,
    ),
    *(
        _binary(n, u, (-2, 2), (-1.5, 1.6), FLOATS, smooth=())
        for n, u in (("ge", np.greater_equal), ("gt", np.greater), ("le", np.less_equal), ("lt", np.less))
    ),
    *(
        Operation(
            n, getattr(lax, n), [(np.float64([[1, 2], [3, np.nan]]), np.float64([[1, 2.5], [3, np.nan]]))], FLOATS, u
        )
        for n, u in (("eq", np.equal), ("ne", np.not_equal))
    ),
]


def _int_op(
    name: str,
    f: Callable,
    reference: Callable,
    b_low: int = -9,
    b_high: int = 9,
    label: str = "",
    names: Sequence[str] = INTS,
) -> list[Operation]:
    rows = []
    for dtype in names:
        low = 0 if dtype.startswith("u") else -9
        a = integers(low, 100, dtype=dtype)
        b = integers(max(low, b_low), b_high, dtype=dtype)
        rows.append(Operation(name, f, [(a, b)], (dtype,), reference, (), label or dtype))
    return rows


_PAIRS = [(np.array([True, True, False, False]), np.array([True, False, True, False]))]
INTEGER = [
    *_int_op("add", lax.add, np.add),
    *_int_op("mul", lax.mul, np.multiply),
    *_int_op("div", lax.div, lambda a, b: (a / b).astype(a.dtype) if a.dtype.kind == "i" else a // b, 1, 9),
    *_int_op("rem", lax.rem, np.fmod, 1, 9),
    *_int_op("and", lax.bitwise_and, np.bitwise_and),
    *_int_op("or", lax.bitwise_or, np.bitwise_or),
    *_int_op("xor", lax.bitwise_xor, np.bitwise_xor),
    *_int_op("shift_left", lax.shift_left, np.left_shift, 0, 6),
    *_int_op("shift_right_arithmetic", lax.shift_right_arithmetic, np.right_shift, 0, 6),
    *_int_op("shift_right_logical", lax.shift_right_logical, np.right_shift, 0, 6, names=("uint8", "uint32")),
    Operation("and", lax.bitwise_and, _PAIRS, BOOL, np.logical_and, (), "bool"),
    Operation("or", lax.bitwise_or, _PAIRS, BOOL, np.logical_or, (), "bool"),
    Operation("xor", lax.bitwise_xor, _PAIRS, BOOL, np.logical_xor, (), "bool"),
    Operation("not", lax.bitwise_not, [(np.array([True, False]),)], BOOL, np.logical_not, (), "bool"),
    Operation("not", lax.bitwise_not, [(integers(-9, 9),)], ("int32",), np.invert),
    Operation(
        "population_count", lax.population_count, [(np.uint32([0, 1, 255, 2**32 - 1]),)], ("uint32",), np.bitwise_count
    ),
    Operation("clz", lax.clz, [(np.uint32([0, 1, 255, 2**31]),)], ("uint32",), lambda x: np.uint32([32, 31, 24, 0])),
]

_Z = inside(-2, 2) + 1j * inside(-1, 2)
COMPLEX_PARTS = [
    Operation("real", lax.real, [(_Z,)], COMPLEX, np.real, (0,)),
    Operation("imag", lax.imag, [(_Z,)], COMPLEX, np.imag, (0,)),
    Operation("conj", lax.conj, [(_Z,)], COMPLEX, np.conj, (0,)),
    Operation("complex", lax.complex, [(inside(-2, 2), inside(-2, 2))], WIDE, lambda a, b: a + 1j * b, (0, 1)),
]

_X23 = inside(-2, 2)
_X234 = inside(-3, 3, (2, 3, 4))
CHOICE = [
    Operation(
        "select_n",
        lax.select_n,
        [(_X23 > 0, inside(-1, 1), inside(-1, 1))],
        FLOATS,
        lambda w, a, b: np.where(w, b, a),
        (1, 2),
    ),
    Operation(
        "select_n",
        lax.select_n,
        [(integers(0, 3), inside(-1, 1), inside(-1, 1), inside(-1, 1))],
        FLOATS,
        lambda w, *c: np.choose(w, c),
        (1, 2, 3),
        "three",
    ),
    Operation(
        "clamp",
        lax.clamp,
        [(np.float64(-1), _X23, np.float64(1.1)), (inside(-1, -0.2), _X23, inside(0.3, 1))],
        FLOATS,
        lambda a, x, b: np.clip(x, a, b),
        (0, 1, 2),
    ),
]

SHAPE = [
    Operation(
        "broadcast_in_dim",
        lambda x: lax.broadcast_in_dim(x, (2, 4, 3), (0, 2)),
        [(_X23,)],
        FLOATS,
        lambda x: np.broadcast_to(x[:, None], (2, 4, 3)),
        (0,),
    ),
    Operation(
        "broadcast_in_dim",
        lambda x: lax.broadcast_in_dim(x, (2, 5), (0, 1)),
        [(inside(-1, 1, (2, 1)),)],
        FLOATS,
        lambda x: np.broadcast_to(x, (2, 5)),
        (0,),
        "unit",
    ),
    Operation("reshape", lambda x: lax.reshape(x, (4, 6)), [(_X234,)], FLOATS, lambda x: x.reshape(4, 6), (0,)),
    Operation(
        "squeeze", lambda x: lax.squeeze(x, (1,)), [(inside(-1, 1, (2, 1, 3)),)], FLOATS, lambda x: x[:, 0], (0,)
    ),
    Operation(
        "transpose",
        lambda x: lax.transpose(x, (2, 0, 1)),
        [(_X234,)],
        FLOATS + COMPLEX,
        lambda x: x.transpose(2, 0, 1),
        (0,),
    ),
    Operation(
        "convert_element_type",
        lambda x: lax.convert_element_type(x, np.float32),
        [(_X23,)],
        ("float64", "float16", "bfloat16"),
        lambda x: x.astype(np.float32),
        (0,),
    ),
    Operation(
        "convert_element_type",
        lambda x: lax.convert_element_type(x, np.int32),
        [(np.float64([1.7, -1.7, 0.0, 3e9, -3e9, np.nan]),)],
        WIDE,
        lambda x: np.int32([1, -1, 0, 2**31 - 1, -(2**31), 0]),
        (),
        "to int",
    ),
    Operation(
        "bitcast_convert_type",
        lambda x: lax.bitcast_convert_type(x, np.int32),
        [(np.float32([1.5, -2.25]),)],
        ("float32",),
        lambda x: x.astype(np.float32).view(np.int32),
        (),
    ),
    Operation(
        "iota",
        lambda x: lax.broadcasted_iota(np.int32, (2, 3), 1),
        [(np.float64(0),)],
        ("float32",),
        lambda x: np.broadcast_to(np.arange(3), (2, 3)),
        (),
    ),
    Operation("rev", lambda x: lax.rev(x, (0, 2)), [(_X234,)], FLOATS, lambda x: x[::-1, :, ::-1], (0,)),
    Operation(
        "concatenate",
        lambda x, y: lax.concatenate([x, y], 1),
        [(_X23, inside(-1, 1, (2, 2)))],
        FLOATS,
        lambda x, y: np.concatenate([x, y], 1),
        (0, 1),
    ),
    Operation(
        "pad", lambda x, v: lax.pad(x, v, ((1, 2, 0), (-1, 1, 1))), [(_X23, np.float64(0.5))], FLOATS, None, (0, 1)
    ),
    Operation(
        "slice",
        lambda x: lax.slice(x, (0, 1, 0), (2, 3, 4), (1, 1, 2)),
        [(_X234,)],
        FLOATS,
        lambda x: x[:, 1:3, ::2],
        (0,),
    ),
    Operation(
        "dynamic_slice",
        lambda x, i: lax.dynamic_slice(x, (0, i), (2, 2)),
        [(_X23, np.int32(1)), (_X23, np.int32(7))],
        FLOATS,
        lambda x, i: x[:, 1:3],
        (0,),
    ),
    Operation(
        "dynamic_update_slice",
        lambda x, u, i: lax.dynamic_update_slice(x, u, (0, i)),
        [(_X23, inside(-1, 1, (2, 2)), np.int32(1))],
        FLOATS,
        lambda x, u, i: np.concatenate([x[:, :1], u], 1),
        (0, 1),
    ),
    Operation(
        "optimization_barrier",
        lambda x, y: lax.optimization_barrier((x, y)),
        [(_X23, _X23)],
        WIDE,
        lambda x, y: (x, y),
        (0, 1),
    ),
]

_GATHER = lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,))
_SCATTER = lax.ScatterDimensionNumbers(
    update_window_dims=(1,), inserted_window_dims=(0,), scatter_dims_to_operand_dims=(0,)
)
_ROWS = np.int32([[2], [0], [2]])
_DISTINCT = np.int32([[2], [0]])


def _scattered(combine: Callable) -> Callable:
    def reference(x: np.ndarray, i: np.ndarray, u: np.ndarray) -> np.ndarray:
        out = x.copy()
        for row, value in zip(i[:, 0], u, strict=True):
            out[row] = combine(out[row], value)
        return out

    return reference


INDEXING = [
    Operation(
        "gather",
        lambda x, i: lax.gather(x, i, _GATHER, (1, 4)),
        [(inside(-2, 2, (3, 4)), _ROWS)],
        FLOATS,
        lambda x, i: x[i[:, 0]],
        (0,),
    ),
    Operation(
        "scatter",
        lambda x, i, u: lax.scatter(x, i, u, _SCATTER, unique_indices=True),
        [(inside(-2, 2, (3, 4)), _DISTINCT, inside(-1, 1, (2, 4)))],
        FLOATS,
        _scattered(lambda a, b: b),
        (0, 2),
    ),
    Operation(
        "scatter_add",
        lambda x, i, u: lax.scatter_add(x, i, u, _SCATTER),
        [(inside(-2, 2, (3, 4)), _ROWS, inside(-1, 1, (3, 4)))],
        FLOATS,
        _scattered(np.add),
        (0, 2),
    ),
    Operation(
        "scatter_mul",
        lambda x, i, u: lax.scatter_mul(x, i, u, _SCATTER, unique_indices=True),
        [(inside(-2, 2, (3, 4)), _DISTINCT, inside(-1, 1, (2, 4)))],
        FLOATS,
        _scattered(np.multiply),
        (0, 2),
    ),
    Operation(
        "scatter_min",
        lambda x, i, u: lax.scatter_min(x, i, u, _SCATTER),
        [(inside(-2, 2, (3, 4)), _ROWS, inside(-1, 1, (3, 4)))],
        WIDE,
        _scattered(np.minimum),
    ),
    Operation(
        "scatter_max",
        lambda x, i, u: lax.scatter_max(x, i, u, _SCATTER),
        [(inside(-2, 2, (3, 4)), _ROWS, inside(-1, 1, (3, 4)))],
        WIDE,
        _scattered(np.maximum),
    ),
]


def _reduction(
    name: str,
    f: Callable,
    reference: Callable,
    smooth: bool = True,
    dtypes: Sequence[str] = FLOATS,
    sample: np.ndarray | None = None,
) -> Operation:
    x = inside(0.4, 2, (2, 3, 4)) if sample is None else sample
    return Operation(name, f, [(x,)], dtypes, reference, (0,) if smooth else ())


_BITS = integers(0, 63, (2, 3, 4))
REDUCTION = [
    _reduction("reduce_sum", lambda x: lax.reduce_sum(x, (0, 2)), lambda x: x.sum((0, 2)), dtypes=FLOATS + COMPLEX),
    _reduction("reduce_prod", lambda x: lax.reduce_prod(x, (0, 2)), lambda x: x.prod((0, 2))),
    _reduction("reduce_max", lambda x: lax.reduce_max(x, (0, 2)), lambda x: x.max((0, 2))),
    _reduction("reduce_min", lambda x: lax.reduce_min(x, (0, 2)), lambda x: x.min((0, 2))),
    _reduction(
        "reduce_and", lambda x: lax.reduce_and(x, (1,)), lambda x: np.bitwise_and.reduce(x, 1), False, ("int32",), _BITS
    ),
    _reduction(
        "reduce_or", lambda x: lax.reduce_or(x, (1,)), lambda x: np.bitwise_or.reduce(x, 1), False, ("int32",), _BITS
    ),
    _reduction(
        "reduce_xor", lambda x: lax.reduce_xor(x, (1,)), lambda x: np.bitwise_xor.reduce(x, 1), False, ("int32",), _BITS
    ),
    _reduction("argmax", lambda x: lax.argmax(x, 1, np.int32), lambda x: x.argmax(1), False),
    _reduction("argmin", lambda x: lax.argmin(x, 1, np.int32), lambda x: x.argmin(1), False),
    _reduction("cumsum", lambda x: lax.cumsum(x, 1), lambda x: x.cumsum(1)),
    _reduction("cumprod", lambda x: lax.cumprod(x, 2), lambda x: x.cumprod(2)),
    _reduction("cummax", lambda x: lax.cummax(x, 2), lambda x: np.maximum.accumulate(x, 2)),
    _reduction("cummin", lambda x: lax.cummin(x, 2), lambda x: np.minimum.accumulate(x, 2)),
    _reduction("cumlogsumexp", lambda x: lax.cumlogsumexp(x, 1), lambda x: np.logaddexp.accumulate(x, 1), dtypes=WIDE),
]

_BATCHED = (((2,), (1,)), ((0,), (0,)))
CONTRACTION = [
    Operation("dot_general", lambda a, b: lax.dot_general(a, b, (((1,), (0,)), ((), ()))), [(_X23, inside(-1, 1, (3, 4)))], FLOATS + COMPLEX, lambda a, b: a @ b, (0, 1)),
    Operation("dot_general", lambda a, b: lax.dot_general(a, b, _BATCHED), [(inside(-1, 1, (2, 3, 4)), inside(-1, 1, (2, 4, 2)))], WIDE, lambda a, b: a @ b, (0, 1), "batched"),
    Operation("conv_general_dilated", lambda x, w: convolution.conv(x, w, (2, 1), "SAME"), [(inside(-1, 1, (2, 3, 5, 4)), inside(-1, 1, (2, 3, 3, 2)))], WIDE, None, (0, 1)),
    Operation(
        "conv_general_dilated",
        lambda x, w: convolution.conv_general_dilated(x, w, (1,), ((1, 2),), (2,), (2,), ("NWC", "WIO", "NWC"), feature_group_count=2),
        [(inside(-1, 1, (2, 5, 4)), inside(-1, 1, (2, 2, 4)))], WIDE, None, (0, 1), "dilated groups",
    ),
]  # fmt: skip

_IMAGE = inside(-2, 2, (2, 5, 5))
_WINDOW = ((1, 3, 3), (1, 2, 2))


def _windowed(x: np.ndarray) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2]


WINDOW = [
    Operation(
        "reduce_window_sum",
        lambda x: lax.reduce_window(x, 0.0, lax.add, *_WINDOW, "VALID"),
        [(_IMAGE,)],
        WIDE,
        lambda x: _windowed(x).sum((-1, -2)),
        (0,),
    ),
    Operation(
        "reduce_window_max",
        lambda x: lax.reduce_window(x, -np.inf, lax.max, *_WINDOW, "VALID"),
        [(_IMAGE,)],
        WIDE,
        lambda x: _windowed(x).max((-1, -2)),
        (0,),
    ),
    Operation(
        "reduce_window_min",
        lambda x: lax.reduce_window(x, np.inf, lax.min, *_WINDOW, "VALID"),
        [(_IMAGE,)],
        WIDE,
        lambda x: _windowed(x).min((-1, -2)),
        (0,),
    ),
]

SORTING = [
    Operation(
        "sort",
        lambda x: lax.sort(x, dimension=1),
        [(_X23,), (np.float64([[2, np.nan, -0.0, 0.0]]),)],
        FLOATS,
        lambda x: np.sort(x, 1),
        (),
    ),
    Operation("sort", lambda x: lax.sort(x, dimension=1), [(_X23,)], WIDE, lambda x: np.sort(x, 1), (0,), "derivative"),
    Operation(
        "sort",
        lambda k, v: lax.sort((k, v), dimension=0, num_keys=1),
        [(_X23, inside(-1, 1))],
        WIDE,
        None,
        (0, 1),
        "pairs",
    ),
    Operation(
        "top_k",
        lambda x: lax.top_k(x, 2),
        [(_X23,)],
        WIDE,
        lambda x: (-np.sort(-x, 1)[:, :2], np.argsort(-x, 1)[:, :2]),
        (),
    ),
    Operation(
        "top_k", lambda x: lax.top_k(x, 2)[0], [(_X23,)], WIDE, lambda x: -np.sort(-x, 1)[:, :2], (0,), "derivative"
    ),
]


def _spd(x: Any) -> Any:
    """A positive definite matrix made of any matrix, so that samples and their changes stay in the domain."""
    n = x.shape[-1]
    return lax.add(lax.dot(x, lax.transpose(x, (1, 0))), np.asarray(2 * np.eye(n), x.dtype))


def _np_spd(x: np.ndarray) -> np.ndarray:
    return x @ x.T + 2 * np.eye(len(x))


_SQUARE = inside(-1, 1, (3, 3)) + np.diag([2.0, -2.5, 3.0])
_BANDS = (np.float64([0, 0.3, -0.2]), np.float64([2, 2.5, 3]), np.float64([0.4, 0.1, 0]), inside(-1, 1, (3, 2)))
LINALG = [
    Operation("cholesky", lambda x: linalg.cholesky(_spd(x)), [(inside(-1, 1, (3, 3)),)], WIDE, lambda x: np.linalg.cholesky(_np_spd(x)), (0,), tolerance=10),
    Operation("det", linalg.det, [(_SQUARE,)], WIDE, np.linalg.det, (0,), tolerance=10),
    Operation("linear_solve", linalg.linear_solve, [(_SQUARE, inside(-1, 1, (3, 2)))], WIDE, np.linalg.solve, (0, 1), tolerance=10),
    Operation("triangular_solve", lambda a, b: linalg.triangular_solve(a, b, left_side=True, lower=True), [(_SQUARE, inside(-1, 1, (3, 2)))], WIDE, lambda a, b: np.linalg.solve(np.tril(a), b), (0, 1), tolerance=10),
    Operation("tridiagonal_solve", linalg.tridiagonal_solve, [_BANDS], WIDE, lambda dl, d, du, b: np.linalg.solve(np.diag(d) + np.diag(dl[1:], -1) + np.diag(du[:-1], 1), b), (3,), tolerance=10),
    Operation("qr", lambda x: linalg.qr(x, full_matrices=False), [(_SQUARE,), (inside(-1, 1, (4, 2)),)], WIDE, lambda x: tuple(np.linalg.qr(x)), (0,), tolerance=10),
    Operation("lu", linalg.lu, [(_SQUARE,)], WIDE, None, (0,), tolerance=10),
    Operation("lu_pivots_to_permutation", lambda p: linalg.lu_pivots_to_permutation(p, 4), [(np.int32([2, 2, 3, 3]),)], ("float32",), lambda p: np.int32([2, 0, 3, 1])),
    Operation("svd", lambda x: linalg.svd(x, full_matrices=False, compute_uv=False), [(inside(-1, 1, (4, 3)),)], WIDE, lambda x: np.linalg.svd(x, compute_uv=False), (0,), tolerance=10),
    Operation("eigh", lambda x: linalg.eigh(_spd(x))[1], [(_SQUARE,)], WIDE, lambda x: np.linalg.eigvalsh(_np_spd(x)), (0,), tolerance=10),
    Operation("eig", lambda x: linalg.eig(x, compute_left_eigenvectors=False, compute_right_eigenvectors=False)[0], [(_SQUARE,)], WIDE),
    Operation("geqrf", linalg.geqrf, [(inside(-1, 1, (4, 3)),)], WIDE),
    Operation("householder_product", linalg.householder_product, [(inside(-1, 1, (4, 3)), np.float64([1.1, 1.3, 1.2]))], WIDE),
    Operation("fft", lambda x: lax.fft(x, lax.FftType.FFT, (3,)), [(_Z,)], COMPLEX, np.fft.fft, (0,), tolerance=10),
    Operation("fft", lambda x: lax.fft(x, lax.FftType.RFFT, (4,)), [(_X234,)], WIDE, np.fft.rfft, (0,), "real", tolerance=10),
    Operation("fft", lambda x: lax.fft(x, lax.FftType.IRFFT, (4,)), [(_Z,)], COMPLEX, lambda x: np.fft.irfft(x, 4), (0,), "inverse real", tolerance=10),
]  # fmt: skip

# primitives that exist only inside others, or whose tests are the programs of test_closure.py and the files named
ELSEWHERE = {
    "scan": "test_closure", "cond": "test_closure", "custom_linear_solve": "test_implicit", "while": "test_closure", "jit": "test_closure", "checkpoint": "test_closure",
    "custom_jvp_call": "test_closure", "custom_vjp_call": "test_custom_rules", "custom_vjp_linear": "test_custom_rules",
    "custom_vmap_call": "test_custom_rules", "pure_callback": "test_callbacks", "callback": "test_callbacks", "check": "test_checkify", "fused": "test_fuse",
    "attention": "test_kernels_attention", "attention_gradient": "test_kernels_attention",
    "psum": "test_collectives", "pmax": "test_collectives", "pmin": "test_collectives", "all_gather": "test_collectives",
    "ppermute": "test_collectives", "all_to_all": "test_collectives", "axis_index": "test_collectives",
    "threefry2x32": "test_random", "reduce_window_argmax": "test_windows", "reduce_window_argmin": "test_windows",
    "window_gather": "test_windows", "window_scatter_add": "test_windows", "reduce": "test_reductions", "reduce_window": "test_windows",
}  # fmt: skip

OPERATIONS = [
    *UNARY,
    *BINARY,
    *INTEGER,
    *COMPLEX_PARTS,
    *CHOICE,
    *SHAPE,
    *INDEXING,
    *REDUCTION,
    *CONTRACTION,
    *WINDOW,
    *SORTING,
    *LINALG,
]
