"""What the functions on windows of arrays do to arguments that must be known while tracing."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn.errors import ConcretizationError, DTypeError, ShapeError
from asgfn.graph import ArrayType


def static_ints(name: str, what: str, values: Any) -> tuple[int, ...]:
    """`values` as Python ints.

    Raises:
        ConcretizationError: one of them is traced.
        DTypeError: one of them is no integer.
    """
    try:
        return tuple([operator.index(v) for v in values])
    except ConcretizationError as error:
        raise ConcretizationError(
            f"{name}: {what} must be static integers, got a traced value; for a traced start use dynamic_slice, or "
            f"mark the argument static with static_argnums ({error.args[0]})"
        ) from None
    except TypeError:
        raise DTypeError(f"{name}: {what} must be a sequence of integers, got {values!r}") from None


def static_int(name: str, what: str, value: Any) -> int:
    """`value` as a Python int; raises as `static_ints` does."""
    return static_ints(name, what, (value,))[0]


def check_one_per_axis(name: str, operand: ArrayType, **sequences: Sequence[Any]) -> None:
    """Raises ShapeError unless each sequence has one entry for each axis of the operand."""
    for what, values in sequences.items():
        if len(values) != operand.ndim:
            raise ShapeError(
                f"{name}: {what} {values} has {len(values)} entries, but the operand {operand} has {operand.ndim} axes; "
                "give one entry for each axis"
            )


def as_operand_of(value: Any, dtype: np.dtype) -> Any:
    """A Python scalar as a constant of `dtype`; anything else as it is."""
    return np.asarray(value).astype(dtype) if isinstance(value, (bool, int, float, complex)) else value
