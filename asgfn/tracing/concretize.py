"""Python asks a traced value for its value: `if x > 0`, `int(n)`, `np.asarray(x)`.

Where the trace knows its inputs (`grad` without `jit` around it) the program so far is evaluated and answers; elsewhere
the error says which line asked for what, where the value comes from, and what to write instead.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from asgfn.errors import (
    AsgError,
    ConcretizationError,
    ShapeError,
    TracerArrayConversionError,
    TracerBoolConversionError,
    TracerIntegerConversionError,
    UnexpectedTracerError,
)
from asgfn.tracing.array import ConcreteArray
from asgfn.tracing.trace import Tracer, describe


def concrete_value(x: Any) -> ConcreteArray:
    """The value behind a tracer, through all the levels that it depends on.

    Raises:
        ConcretizationError: it depends on an argument whose value is not known.
    """
    while type(x) is Tracer:
        if x.trace.closed:
            raise UnexpectedTracerError(
                f"the value of a traced array was asked for after the function that was being traced ({x.trace.name or x.trace.why}) had returned: {describe(x)}. "
                "Return it from the function instead of storing it"
            )
        x = x.trace.evaluate(x)
    return x


def is_concrete(x: Any) -> bool:
    """Whether Python can get the value."""
    try:
        concrete_value(x)
    except AsgError:
        return False
    return True


def _ask(x: Tracer, error: type[ConcretizationError], asked: str, remedies: str) -> ConcreteArray:
    try:
        return concrete_value(x)
    except UnexpectedTracerError:
        raise
    except ConcretizationError:
        trace = x.trace
        raise error(
            f"{asked} needs the value of a traced array, {describe(x)}, which is not known while {trace.name or 'the function'} is traced for {trace.why}"
            + f"\n{remedies}"
        ) from None


_BRANCH = (
    "Python `if`, `while`, `and`, `or`, `not` and `in` decide while tracing. Use asgfn.lax.cond or asgfn.lax.while_loop for control flow that depends on "
    "values, asgfn.numpy.where to choose element by element, or make the argument static (static_argnums, static_argnames) if it is a Python value"
)
_NUMBER = (
    "Shapes, axes, range() and Python indices must be known while tracing. Make the argument static (static_argnums, static_argnames), "
    "derive the number from x.shape, or use asgfn.lax.fori_loop, dynamic_slice or x.at[] for what depends on values"
)
_ARRAY = "NumPy functions and float() need values. Use asgfn.numpy instead of numpy, or asgfn.pure_callback to call NumPy from a traced program"


def tracer_bool(self: Tracer) -> bool:
    if self.size != 1:
        raise ShapeError(
            f"the truth value of an array with {self.size} elements is ambiguous ({describe(self)}); use .any() or .all()"
        )
    return bool(_ask(self, TracerBoolConversionError, "bool()", _BRANCH).value.reshape(())[()])


def tracer_int(self: Tracer) -> int:
    return int(_ask(self, TracerIntegerConversionError, "int()", _NUMBER).value)


def tracer_index(self: Tracer) -> int:
    if self.ndim or self.dtype.kind not in "iub":
        raise TypeError(f"only integer scalar arrays can be an index, got {self.aval}")
    return operator.index(_ask(self, TracerIntegerConversionError, "an index or size", _NUMBER).value[()])


def tracer_float(self: Tracer) -> float:
    return float(_ask(self, ConcretizationError, "float()", _ARRAY).value)


def tracer_complex(self: Tracer) -> complex:
    return complex(_ask(self, ConcretizationError, "complex()", _ARRAY).value)


def tracer_array(self: Tracer, dtype: Any = None, copy: Any = None) -> np.ndarray:
    value = _ask(self, TracerArrayConversionError, "NumPy", _ARRAY).value
    return np.array(value, dtype=dtype, copy=copy)


def tracer_item(self: Tracer, *args: Any) -> Any:
    return _ask(self, ConcretizationError, ".item()", _ARRAY).value.item(*args)


def tracer_tolist(self: Tracer) -> Any:
    return _ask(self, ConcretizationError, ".tolist()", _ARRAY).value.tolist()


for _name, _method in {
    "__bool__": tracer_bool,
    "__int__": tracer_int,
    "__index__": tracer_index,
    "__float__": tracer_float,
    "__complex__": tracer_complex,
    "__array__": tracer_array,
    "item": tracer_item,
    "tolist": tracer_tolist,
}.items():
    setattr(Tracer, _name, _method)


def explain_shape(shape: Any, name: str, error: Exception) -> Exception:
    """The error for a shape that is not made of ints."""
    if isinstance(error, AsgError):
        return error
    return TypeError(f"{name} must be an int or a sequence of ints, got {shape!r} ({error})")
