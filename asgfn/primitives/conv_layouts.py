"""Which axis of a convolution's operands is what."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

from asgfn.errors import ShapeError
from asgfn.graph.serial import parameter_type

Spec = tuple[int, ...]


@parameter_type
class ConvDimensionNumbers(NamedTuple):
    """Which axis is what.

    lhs_spec: the axes of the input: batch, feature, then space.
    rhs_spec: the axes of the kernel: output feature, input feature, then space.
    out_spec: the axes of the result: batch, feature, then space.
    """

    lhs_spec: Spec
    rhs_spec: Spec
    out_spec: Spec


def conv_general_permutations(dimension_numbers: Sequence[str]) -> tuple[Spec, ...]:
    """The axes that three layout strings such as ("NHWC", "HWIO", "NHWC") name; space in the order of the kernel's.

    Raises:
        ShapeError: a letter is missing or repeated, or the spatial letters differ.
    """
    letters = ("NC", "OI", "NC")
    for spec, pair in zip(dimension_numbers, letters, strict=True):
        if any(spec.count(letter) != 1 for letter in pair) or len(set(spec)) != len(spec):
            raise ShapeError(
                f"dimension_numbers {tuple(dimension_numbers)}: {spec!r} must have '{pair[0]}' and '{pair[1]}' exactly "
                "once, and no letter twice"
            )
    space = [letter for letter in dimension_numbers[1] if letter not in "OI"]
    for spec, pair in zip(dimension_numbers, letters, strict=True):
        if set(spec) - set(pair) != set(space):
            raise ShapeError(f"dimension_numbers {tuple(dimension_numbers)}: the three must name the same spatial axes")
    return tuple(
        tuple(spec.index(letter) for letter in (*pair, *space))
        for spec, pair in zip(dimension_numbers, letters, strict=True)
    )


def conv_dimension_numbers(
    lhs_shape: Sequence[int], rhs_shape: Sequence[int], dimension_numbers: Any
) -> ConvDimensionNumbers:
    """`dimension_numbers` as `ConvDimensionNumbers`: from None (NCHW, OIHW, NCHW), three strings, or itself.

    Raises:
        ShapeError: strings that do not fit the ranks or each other.
    """
    rank = len(lhs_shape)
    if len(rhs_shape) != rank or rank < 2:
        raise ShapeError(
            "convolution: the operands must have one rank, 2 or more, "
            f"got shapes {tuple(lhs_shape)} and {tuple(rhs_shape)}"
        )
    if dimension_numbers is None:
        return ConvDimensionNumbers(*(tuple(range(rank)),) * 3)
    if len(dimension_numbers) != 3:
        raise ShapeError(f"dimension_numbers must have three entries (lhs, rhs, out), got {dimension_numbers!r}")
    if all(isinstance(spec, str) for spec in dimension_numbers):
        if any(len(spec) != rank for spec in dimension_numbers):
            raise ShapeError(
                f"dimension_numbers {tuple(dimension_numbers)} must have {rank} letters each, one for each axis"
            )
        return ConvDimensionNumbers(*conv_general_permutations(dimension_numbers))
    specs = ConvDimensionNumbers(*(tuple(map(operator.index, spec)) for spec in dimension_numbers))
    if any(sorted(spec) != list(range(rank)) for spec in specs):
        raise ShapeError(f"dimension_numbers {specs} must be three permutations of {rank} axes")
    return specs


def spatial_sizes(x: Any, spec: Spec) -> list[int]:
    """The lengths of the spatial axes of an array with this layout."""
    return [x.shape[d] for d in spec[2:]]
