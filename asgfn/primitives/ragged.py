"""`ragged_dot`: rows in groups, each group times a matrix of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import DTypeError, ShapeError
from asgfn.primitives.cumulative import cumsum
from asgfn.primitives.dot import dot_general
from asgfn.primitives.elementwise import bitwise_and, ge, lt, select, sub
from asgfn.primitives.shaping import broadcast_in_dim, broadcasted_iota, convert_element_type, reshape
from asgfn.tracing import Array, as_array


def ragged_dot(
    lhs: Any,
    rhs: Any,
    group_sizes: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
    group_offset: Any = None,
    out_sharding: Any = None,
) -> Array:
    """Row i of the result is ``lhs[i] @ rhs[g]``, where g is the group that row i belongs to.

    Arguments:
        lhs: [m, k]; the first `group_sizes[0]` rows are group 0, the next `group_sizes[1]` group 1, ...
        rhs: [g, k, n].
        group_sizes: integers [g]; rows beyond their sum give zeros.
        precision, preferred_element_type: as of `dot_general`.
        group_offset, out_sharding: there is one device, so these must be None (or an offset of zero is implied).

    Returns:
        Array [m, n].

    Raises:
        ShapeError, DTypeError: other ranks, lengths that do not agree, or group sizes that are not integers.
    """
    lhs, rhs, group_sizes = (as_array(x, "ragged_dot") for x in (lhs, rhs, group_sizes))
    if group_offset is not None:
        raise NotImplementedError("ragged_dot: group_offset is for several devices; slice rhs and group_sizes instead")
    fits = lhs.ndim == 2 and rhs.ndim == 3 and lhs.shape[1] == rhs.shape[1] and group_sizes.shape == rhs.shape[:1]
    if not fits:
        raise ShapeError(
            f"ragged_dot: takes lhs [m, k], rhs [g, k, n] and group_sizes [g], got {lhs.aval}, {rhs.aval} and "
            f"{group_sizes.aval}"
        )
    if not dtypes.is_integer(group_sizes.dtype):
        raise DTypeError(f"ragged_dot: group_sizes must be integers, got {group_sizes.aval}")
    (m, k), (g, _, n) = lhs.shape, rhs.shape
    sizes = convert_element_type(group_sizes, np.int32)
    ends = cumsum(sizes)
    row = broadcasted_iota(np.int32, (m, g), 0)
    member = bitwise_and(
        ge(row, broadcast_in_dim(sub(ends, sizes), (m, g), (1,))), lt(row, broadcast_in_dim(ends, (m, g), (1,)))
    )
    # each row stands in the columns of its group, zeros elsewhere: the groups' products are one product
    spread = select(
        broadcast_in_dim(member, (m, g, k), (0, 1)),
        broadcast_in_dim(lhs, (m, g, k), (0, 2)),
        broadcast_in_dim(np.zeros((), lhs.dtype), (m, g, k), ()),
    )
    flat = (((1,), (0,)), ((), ()))
    return dot_general(reshape(spread, (m, g * k)), reshape(rhs, (g * k, n)), flat, precision, preferred_element_type)


__all__ = ["ragged_dot"]
