"""`scatter_apply`: updates elements in place of a function, once for each time that an index names them.

It is made of scatters and a loop, so it stands above both.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from asgfn.control.while_loop import while_loop
from asgfn.errors import ConcretizationError
from asgfn.graph import ArrayType
from asgfn.primitives import elementwise as ew
from asgfn.primitives import shaping
from asgfn.primitives.gather import GatherScatterMode, ScatterDimensionNumbers
from asgfn.primitives.reductions import reduce_max
from asgfn.primitives.scatter import read_back, scatter_add_p, scatter_p
from asgfn.tracing import Array, as_array


def scatter_apply(
    operand: Any,
    scatter_indices: Any,
    func: Callable[[Any], Any],
    dimension_numbers: ScatterDimensionNumbers,
    *,
    update_shape: tuple[int, ...] = (),
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
) -> Array:
    """`operand` with the elements at `scatter_indices` replaced by `func` of them, once for each occurrence.

    Arguments:
        func: element-wise function of an array.
        update_shape: the shape that the updates of the corresponding `scatter` would have.
        The others are as in `scatter`. `unique_indices=True` saves finding out how often each element occurs.

    Returns:
        Array of the operand's shape and dtype. It can be differentiated as far as `func` can.
    """
    operand, indices = as_array(operand), as_array(scatter_indices)
    numbers = ScatterDimensionNumbers(*(tuple(map(operator.index, axes)) for axes in dimension_numbers))
    updates_type = ArrayType(update_shape, operand.dtype)
    options = {"indices_are_sorted": bool(indices_are_sorted), "mode": GatherScatterMode.from_any(mode)}
    params = {"dimension_numbers": numbers, "unique_indices": bool(unique_indices), **options}
    scatter_p.type_rule(operand.aval, indices.aval, updates_type, **params)  # checks that all fits

    def apply_where(active: Any, array: Any) -> Any:
        """One application. Occurrences of one element all read and write the same values."""
        values = read_back(array, indices, updates_type, params)
        new = shaping.convert_element_type(func(values), array.dtype)
        new = new if new.ndim else shaping.full(values.shape, new)
        return scatter_p.bind(array, indices, new if active is None else ew.select(active, new, values), **params)

    positions = np.prod(indices.shape[:-1], dtype=np.int64)
    if unique_indices or positions <= 1:
        return apply_where(None, operand)

    ones = shaping.full(update_shape, 1, np.int32)
    occurrences = scatter_add_p.bind(shaping.full(operand.shape, 0, np.int32), indices, ones, **params)
    occurrences = read_back(occurrences, indices, updates_type, params)
    most = reduce_max(occurrences, tuple(range(occurrences.ndim)))
    try:
        bound = int(most)
    except ConcretizationError:
        bound = int(positions)  # for reverse mode; the loop itself stops after `most` rounds

    def unfinished(state: tuple[Any, Any]) -> Any:
        return ew.lt(state[0], most)

    def once_more(state: tuple[Any, Any]) -> tuple[Any, Any]:
        done, array = state
        return ew.add(done, np.int32(1)), apply_where(ew.gt(occurrences, done), array)

    return while_loop(unfinished, once_more, (np.int32(0), operand), max_steps=bound)[1]
