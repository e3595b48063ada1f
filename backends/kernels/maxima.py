"""Values that are known not to be above zero: x - max(x)."""

from __future__ import annotations

from collections.abc import Sequence

from asgfn.graph.asg import Asg

_SAME = ("stop_gradient", "copy", "name", "optimization_barrier")
# for each axis of a value which one of x it is, None where it has one element or the same ones; and axes that are reduced
_Maximum = tuple[Sequence["int | None"], Sequence[int]]


def is_below_its_maximum(asg: Asg, value: int) -> bool:
    """Whether a value is x - max(x), the maximum being over some axes of x, along which it is repeated."""
    maker = asg.producers[value]
    if maker < 0 or asg.nodes[maker].primitive.name != "sub":
        return False
    x, most = asg.nodes[maker].inputs
    shape = asg.value_types[value].shape
    found = _maximum(asg, most, x)
    if found is None or asg.value_types[x].shape != shape:
        return False
    axes, reduced = found
    axes = axes or [None] * len(shape)  # a scalar is repeated along all
    return len(axes) == len(shape) and all(
        n == 1 or axis == k or (axis is None and k in reduced)
        for k, (n, axis) in enumerate(zip(shape, axes, strict=True))
    )


def _maximum(asg: Asg, value: int, x: int) -> _Maximum | None:
    """How a value is a maximum of x, seen through views; None if it is none."""
    maker = asg.producers[value]
    if maker < 0:
        return None
    node, shape = asg.nodes[maker], asg.value_types[value].shape
    name, (operand, *_) = node.primitive.name, node.inputs or (-1,)
    if name == "reduce_max":
        reduced = node.params["axes"]
        kept = [k for k in range(len(asg.value_types[operand].shape)) if k not in reduced]
        return (kept, reduced) if operand == x else None
    if name not in (*_SAME, "broadcast_in_dim", "reshape", "expand_dims"):
        return None
    found = _maximum(asg, operand, x)
    if found is None or name in _SAME:
        return found
    axes, reduced = found
    before = asg.value_types[operand].shape
    now: list[int | None] = [None] * len(shape)
    if name == "broadcast_in_dim":
        targets = node.params["broadcast_dimensions"]
    else:  # axes of one element come and go
        targets = [k for k, n in enumerate(shape) if n != 1]
        axes = [axis for axis, n in zip(axes, before, strict=True) if n != 1]
        if [shape[k] for k in targets] != [n for n in before if n != 1]:
            return None
    for axis, target in zip(axes, targets, strict=True):
        now[target] = axis
    return now, reduced
