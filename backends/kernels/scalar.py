"""Element-wise primitives as operations on registers.

A rule gets the builder, the types and the operands, and returns the result in the register type of its dtype. What a
device computes itself is one operation; the rest is written in terms of those (`backends.kernels.functions`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from asgfn.graph.types import ArrayType
from asgfn.primitives.threefry import PARITY, ROTATIONS
from backends.kernels import functions_bits, functions_exact
from backends.kernels.functions_notation import Number, constant, loaded_later, where
from backends.kernels.ir import BOOL, F16, F32, F64, U32, U64, Builder, Value
from backends.kernels.types import FLOATS, Types, magnitude_bits


class Operation:
    """What a rule is called with, besides the operands."""

    __slots__ = ("b", "in_types", "out_types", "params", "types")

    def __init__(
        self,
        b: Builder,
        types: Types,
        in_types: Sequence[ArrayType],
        out_types: Sequence[ArrayType],
        params: Mapping[str, Any],
    ):
        self.b, self.types, self.in_types, self.out_types, self.params = b, types, in_types, out_types, params

    @property
    def dtype(self) -> np.dtype:
        """Of the first operand."""
        return self.in_types[0].dtype

    @property
    def is_float(self) -> bool:
        return self.dtype.kind not in "iub"

    def constant(self, value: Any, like: Value) -> Value:
        """A constant of a value's register type."""
        return self.b.constant(float(value) if like.dtype in FLOATS else value, like.dtype)

    @property
    def width(self) -> np.dtype:
        """Integers, without a sign, that are as wide as the first operand's register."""
        return np.dtype(np.uint64 if self.dtype.itemsize == 8 else np.uint32)


RULES: dict[str, Callable[..., Value | list[Value]]] = {}
# floats of these need no rounding: they are one of the operands, or whole numbers
_EXACT = frozenset(
    ("neg", "abs", "sign", "max", "min", "clamp", "select_n", "floor", "ceil", "round", "rem", "nextafter", "reduce_precision",
     "bitcast_convert_type", "convert_element_type")
)  # fmt: skip


def rule(*names: str) -> Callable[[Callable], Callable]:
    """Registers the code of element-wise primitives."""

    def register(function: Callable) -> Callable:
        for name in names:
            RULES[name] = function
        return function

    return register


def supports(
    name: str, in_types: Sequence[ArrayType], out_types: Sequence[ArrayType], params: Mapping[str, Any]
) -> bool:
    """Whether there is code for a primitive of these types: real numbers, of one shape or of none."""
    if name not in RULES or (name in _SINGLE and in_types[0].dtype == np.float64):
        return False
    shape = out_types[0].shape
    if any(t.dtype.kind == "c" for t in (*in_types, *out_types)) or any(t.shape not in ((), shape) for t in in_types):
        return False
    if name == "bitcast_convert_type":
        return in_types[0].dtype.itemsize == out_types[0].dtype.itemsize
    # powers of integers by integers, and their reciprocals, are the host's
    if name == "pow" and in_types[0].dtype.kind in "iub":
        return False
    return not (name == "integer_pow" and in_types[0].dtype.kind in "iu" and params["y"] < 0)


def apply(
    b: Builder,
    types: Types,
    name: str,
    operands: Sequence[Value],
    in_types: Sequence[ArrayType],
    out_types: Sequence[ArrayType],
    params: Mapping[str, Any],
) -> Value | list[Value]:
    """The result of an element-wise primitive, of its dtype's precision."""
    if operands and not types.exact and all(v.op == "constant" for v in operands):
        # languages compute with constants when they compile, and refuse what is not finite then
        operands = [opaque(b, types, v) for v in operands]
    made = RULES[name](Operation(b, types, in_types, out_types, params), *operands)
    if isinstance(made, Value):
        return _rounded(b, types, name, made, out_types[0].dtype)
    return [_rounded(b, types, name, v, t.dtype) for v, t in zip(made, out_types, strict=True)]


def _rounded(b: Builder, types: Types, name: str, value: Value, dtype: np.dtype) -> Value:
    if value.dtype == BOOL or (name in _EXACT and dtype.kind not in "iu"):
        return value
    return types.rounded(b, value, dtype)


def opaque(b: Builder, types: Types, value: Value) -> Value:
    """A constant as a number that compilers do not compute with beforehand; others, and where that is no harm, as they are."""
    return b.read(b.variable(value)) if value.op == "constant" and not types.exact else value


# ---------------------------------------------------------------------------------------------- functions of floats
# those that the C library has for 64-bit floats, by its names
_LIBRARY = {
    name: name
    for name in (
        "exp", "exp2", "expm1", "log", "log1p", "cbrt", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh",
        "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "lgamma", "pow",
    )
} | {"rem": "fmod"}  # fmt: skip
# formulas that are right for floats of any width, where computing is exact
_ANY_WIDTH = frozenset(("sqrt", "rsqrt", "sign", "is_finite", "round"))
# functions that are computed in 32 bits only
_SINGLE = frozenset(("erf_inv", "digamma", "bessel_i0e", "bessel_i1e", "zeta", "polygamma"))


def function(name: str, formula: Callable[..., Number]) -> None:
    """Registers a function that is computed in 32 bits, or, of 64-bit floats, by the C library."""

    def compute(o: Operation, *operands: Value) -> Value:
        return of_floats(o, name, formula, *operands)

    RULES[name] = compute


def of_floats(o: Operation, name: str, formula: Callable[..., Number], *operands: Value) -> Value:
    """A function of floats, by the way that suits their width and the target.

    Arguments:
        formula: what is right on every device, of 32-bit floats.
    """
    if o.types.exact:
        formula = functions_exact.FORMULAS.get(name, formula)
    if operands[0].dtype != F64:
        return in_single(o.b, o.types, formula, *operands)
    numbers = [Number(o.b, v) for v in operands]
    if name in _ANY_WIDTH:
        return functions_exact.FORMULAS.get(name, formula)(*numbers).value
    if name == "logistic":
        return (1.0 / ((-numbers[0]).call("exp") + 1.0)).value
    return numbers[0].call(_LIBRARY[name], *numbers[1:]).value


def in_single(b: Builder, types: Types, formula: Callable[..., Number], *operands: Value) -> Value:
    """A formula of 32-bit floats, for floats of any register type that is not wider."""
    wide = [opaque(b, types, v) for v in operands]
    numbers = [Number(b, b.op("convert", v, dtype=F32) if v.dtype == F16 else v) for v in wide]
    result = formula(*numbers).value
    return b.op("convert", result, dtype=F16) if operands[0].dtype == F16 and result.dtype == F32 else result


for _module, _names in {
    "functions": (
        "exp", "exp2", "expm1", "log", "log1p", "logistic", "sqrt", "rsqrt", "cbrt", "sinh", "cosh", "tanh", "asinh",
        "acosh", "atanh",
    ),
    "functions_angles": ("sin", "cos", "tan", "asin", "acos", "atan", "atan2"),
    "functions_error": ("erf", "erfc", "erf_inv"),
    "functions_gamma": ("lgamma", "digamma"),
    "functions_bessel": ("bessel_i0e", "bessel_i1e"),
    "functions_zeta": ("zeta", "polygamma"),
}.items():  # fmt: skip
    for _name in _names:
        function(_name, loaded_later(f"backends.kernels.{_module}", _name))


# e^x of what is not above zero (see `maxima`), which is shorter on processors
function("exp_below", loaded_later("backends.kernels.functions", "exp"))


@rule("pow")
def _pow(o: Operation, x: Value, y: Value) -> Value:
    y = o.types.convert(o.b, y, o.in_types[1].dtype, o.dtype)
    return of_floats(o, "pow", loaded_later("backends.kernels.functions_power", "power"), x, y)


# ---------------------------------------------------------------------------------------------- arithmetic
def _direct(name: str, op: str | None = None) -> None:
    RULES[name] = lambda o, *operands: o.b.op(op or name, *operands)


for _name in ("add", "mul", "abs", "floor", "ceil"):
    _direct(_name)


@rule("sub")
def _sub(o: Operation, x: Value, y: Value) -> Value:
    if x is y and o.is_float and not o.types.exact:  # compilers take x - x for 0, whatever x is
        finite = o.b.op("lt", magnitude_bits(o.b, x), o.b.constant(0x7F800000, U32), dtype=BOOL)
        return o.b.select(finite, o.types.constant(o.b, 0.0, o.dtype), o.types.constant(o.b, float("nan"), o.dtype))
    return o.b.op("sub", x, y)


@rule("neg")
def _neg(o: Operation, x: Value) -> Value:
    return o.b.op("neg", x) if x.dtype not in (U32, U64) else o.b.op("sub", o.b.constant(0, x.dtype), x)


@rule("div")
def _div(o: Operation, x: Value, y: Value) -> Value:
    return o.b.op("div", x, y) if o.is_float else integer_division(o, x, y)[0]


@rule("rem")
def _rem(o: Operation, x: Value, y: Value) -> Value:
    if not o.is_float:
        return integer_division(o, x, y)[1]
    if not o.types.exact:
        return in_single(o.b, o.types, functions_bits.remainder, x, y)
    # that of 32-bit floats is one, too
    a, c = (Number(o.b, v) for v in (x, y))
    rest = a.double().call("fmod", c.double())
    return rest.value if x.dtype == F64 else rest.real().value


def integer_division(o: Operation, x: Value, y: Value) -> tuple[Value, Value]:
    """Quotient towards zero and remainder. By zero they are -1 (all ones) and x; the smallest number by -1 wraps."""
    b = o.b
    if y.op == "constant" and y.attr not in (0, -1):
        return b.op("div", x, y), b.op("rem", x, y)
    x, y = opaque(b, o.types, x), opaque(b, o.types, y)
    zero, one = b.constant(0, y.dtype), b.constant(1, y.dtype)
    by_zero = b.op("eq", y, zero, dtype=BOOL)
    if x.dtype in (U32, U64):
        ones = b.constant(int(np.iinfo(o.width).max), x.dtype)
        safe = b.select(by_zero, one, y)
        quotient, remainder = b.op("div", x, safe), b.op("rem", x, safe)
        return b.select(by_zero, ones, quotient), b.select(by_zero, x, remainder)
    minus_one = b.constant(-1, x.dtype)
    by_minus_one = b.op("eq", y, minus_one, dtype=BOOL)
    safe = b.select(b.op("or", by_zero, by_minus_one), one, y)
    quotient, remainder = b.op("div", x, safe), b.op("rem", x, safe)
    quotient = b.select(by_minus_one, b.op("sub", zero, x), quotient)
    return b.select(by_zero, minus_one, quotient), b.select(by_zero, x, remainder)


def _make_extremum(name: str) -> None:
    def extremum(o: Operation, x: Value, y: Value) -> Value:
        b = o.b
        if x.dtype == BOOL:
            return b.op("or" if name == "max" else "and", x, y)
        best = b.op(name, x, y)
        return nan_first(o, best, x, y) if o.is_float else best

    RULES[name] = extremum


for _name in ("max", "min"):
    _make_extremum(_name)


def nan_first(o: Operation, otherwise: Value, *operands: Value) -> Value:
    """The first operand that is NaN, if there is one: devices' `max` and `min` pass over them."""
    if o.types.exact:
        return otherwise
    for x in reversed(operands):
        otherwise = o.b.select(o.types.is_nan(o.b, x), x, otherwise)
    return otherwise


@rule("clamp")
def _clamp(o: Operation, low: Value, x: Value, high: Value) -> Value:
    b = o.b
    if x.dtype == BOOL:
        return b.op("and", b.op("or", x, low), high)
    inside = b.op("min", b.op("max", x, low), high)
    return nan_first(o, inside, x, low, high) if o.in_types[1].dtype.kind not in "iu" else inside


def goes_before(b: Builder, types: Types, name: str, x: Value, best: Value) -> Value:
    """Whether argmax (argmin) prefers x to the best one before it: NaN to all else, the first of equal ones."""
    if x.dtype == BOOL:
        no = b.op("not", best if name == "argmax" else x)
        return b.op("and", x if name == "argmax" else best, no)
    better = b.op("gt" if name == "argmax" else "lt", x, best, dtype=BOOL)
    if x.dtype not in FLOATS:
        return better
    known = b.op("not", types.is_nan(b, best))
    return b.op("and", known, b.op("or", better, types.is_nan(b, x)))


@rule("square")
def _square(o: Operation, x: Value) -> Value:
    return o.b.op("mul", x, x)


@rule("integer_pow")
def _integer_pow(o: Operation, x: Value) -> Value:
    """Square and multiply, rounded as often as it is on the host."""
    one = o.constant(1, x)

    def times(a: Value, c: Value) -> Value:
        return o.types.rounded(o.b, o.b.op("mul", a, c), o.dtype)

    n, base, result = abs(o.params["y"]), x, None
    while n:
        if n & 1:
            result = base if result is None else times(result, base)
        n >>= 1
        if n:
            base = times(base, base)
    if result is None:
        return one
    return o.b.op("div", one, result) if o.params["y"] < 0 else result


@rule("sign")
def _sign(o: Operation, x: Value) -> Value:
    b = o.b
    if o.is_float:
        return of_floats(o, "sign", functions_bits.sign, x)
    one = b.constant(1, x.dtype)
    if x.dtype in (U32, U64):
        return b.op("min", x, one)
    return b.op("max", b.op("min", x, one), b.constant(-1, x.dtype))


@rule("round")
def _round(o: Operation, x: Value) -> Value:
    if o.params["rounding_method"] == 1:
        return o.b.op("round", x)
    return of_floats(o, "round", functions_bits.round_away, x)


# ---------------------------------------------------------------------------------------------- comparisons
for _name in ("gt", "lt"):
    RULES[_name] = lambda o, x, y, op=_name: o.b.op(op, x, y, dtype=BOOL)


@rule("eq")
def _eq(o: Operation, x: Value, y: Value) -> Value:
    if (
        o.is_float and x is y and not o.types.exact
    ):  # the question whether something is NaN, which compilers may think they know
        return o.b.op("not", o.types.is_nan(o.b, x))
    return o.b.op("eq", x, y, dtype=BOOL)


@rule("ne")
def _ne(o: Operation, x: Value, y: Value) -> Value:
    # devices' own "not equal" may be false for NaN
    return o.b.op("not", _eq(o, x, y)) if o.is_float and not o.types.exact else o.b.op("ne", x, y, dtype=BOOL)


@rule("ge")
def _ge(o: Operation, x: Value, y: Value) -> Value:
    return _eq(o, x, y) if x is y else o.b.op("ge", x, y, dtype=BOOL)


@rule("le")
def _le(o: Operation, x: Value, y: Value) -> Value:
    return _eq(o, x, y) if x is y else o.b.op("le", x, y, dtype=BOOL)


function("is_finite", lambda x: x.magnitude_bits() < 0x7F800000)


# ---------------------------------------------------------------------------------------------- bits
for _name in ("and", "or", "xor", "not"):
    _direct(_name)


def _shift(name: str) -> None:
    def shift(o: Operation, x: Value, amount: Value) -> Value:
        width = 8 * o.dtype.itemsize
        x, amount = opaque(o.b, o.types, x), opaque(o.b, o.types, amount)
        number, by = Number(o.b, x), functions_bits.stored(Number(o.b, amount), o.dtype)
        inside = by < width
        if o.types.exact:  # languages for devices take the lowest bits, but not LLVM
            by = by.minimum(width - 1)
        if name == "shift_right_arithmetic":
            return (number >> by.minimum(width - 1)).value
        if name == "shift_right_logical":
            moved = functions_bits.stored(number, o.dtype) >> by
            moved = functions_bits.unstored(moved, o.dtype, x.dtype)
        else:
            moved = number << by
        return where(inside, moved, 0).value

    RULES[name] = shift


for _name in ("shift_left", "shift_right_logical", "shift_right_arithmetic"):
    _shift(_name)


@rule("population_count")
def _population_count(o: Operation, x: Value) -> Value:
    count = functions_bits.stored(Number(o.b, opaque(o.b, o.types, x)), o.dtype).op("count_ones")
    return o.types.convert(o.b, count.value, o.width, o.dtype)


@rule("clz")
def _clz(o: Operation, x: Value) -> Value:
    bits = functions_bits.stored(Number(o.b, opaque(o.b, o.types, x)), o.dtype)
    count = bits.op("count_leading_zeros") - 8 * (o.width.itemsize - o.dtype.itemsize)
    return o.types.convert(o.b, count.value, o.width, o.dtype)


@rule("nextafter")
def _nextafter(o: Operation, x: Value, y: Value) -> Value:
    a, c = (Number(o.b, opaque(o.b, o.types, v)) for v in (x, y))
    return functions_bits.unstored(functions_bits.nextafter(a, c, o.dtype), o.dtype, x.dtype).value


@rule("reduce_precision")
def _reduce_precision(o: Operation, x: Value) -> Value:
    raw = functions_bits.stored(Number(o.b, opaque(o.b, o.types, x)), o.dtype)
    layout = functions_bits.format_of(o.dtype)
    bits = functions_bits.reduce_precision(raw, layout, o.params["exponent_bits"], o.params["mantissa_bits"])
    return functions_bits.unstored(bits, o.dtype, x.dtype).value


@rule("bitcast_convert_type")
def _bitcast(o: Operation, x: Value) -> Value:
    target = o.out_types[0].dtype
    if target == o.dtype:
        return x
    if x.dtype == BOOL:
        return o.types.convert(o.b, x, o.dtype, target)
    bits = functions_bits.stored(Number(o.b, opaque(o.b, o.types, x)), o.dtype)
    if target.kind == "b":
        return (~bits.equals(0)).value
    return functions_bits.unstored(bits, target, o.types.register(target)).value


@rule("threefry2x32")
def _threefry(o: Operation, *operands: Value) -> list[Value]:
    """Threefry-2x32 with 20 rounds; see `asgfn.primitives.threefry`."""
    key0, key1, x0, x1 = (Number(o.b, opaque(o.b, o.types, v)) for v in operands)
    schedule = (key0, key1, key0 ^ key1 ^ constant(o.b, PARITY, U32))
    x0, x1 = x0 + key0, x1 + key1
    for step in range(5):
        for distance in ROTATIONS[step % 2]:
            x0 = x0 + x1
            x1 = ((x1 << distance) | (x1 >> (32 - distance))) ^ x0
        x0 = x0 + schedule[(step + 1) % 3]
        x1 = x1 + (schedule[(step + 2) % 3] + (step + 1))
    return [x0.value, x1.value]


# ---------------------------------------------------------------------------------------------- selection, conversion
@rule("select_n")
def _select_n(o: Operation, which: Value, *cases: Value) -> Value:
    b = o.b
    if len(cases) == 1:
        return cases[0]
    if which.dtype == BOOL:
        return b.select(which, cases[1], cases[0])
    result = cases[-1]
    for k in reversed(range(len(cases) - 1)):
        result = b.select(b.op("le", which, o.constant(k, which), dtype=BOOL), cases[k], result)
    return result


@rule("convert_element_type")
def _convert(o: Operation, x: Value) -> Value:
    return o.types.convert(o.b, x, o.dtype, o.out_types[0].dtype)
