"""Computing a part of a node's results: the same operations on shorter arrays.

A result is cut along one of its axes into equal steps, and so is each value that it is computed from, along the axis that
the result's axis comes from; or the value is needed whole. `cut` answers how, for a primitive or for a region of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from asgfn.graph.asg import Asg, Node, Params
from asgfn.graph.edit import GraphBuilder, prune
from asgfn.graph.types import ArrayType
from asgfn.primitives.elementwise import add_p
from asgfn.transforms.region_roles import ELEMENTWISE, role_of

Cut = int | None  # the axis along which a value is cut; None if it is needed whole


class NotCut(Exception):
    """Parts of the result do not come from parts of the operands."""


class Part(NamedTuple):
    """A node that computes some steps of the result.

    Attributes:
        node: it, with operands in the order of `operands`.
        operands: (number of the operand of the whole node, how it is cut).
    """

    node: Node
    operands: tuple[tuple[int, Cut], ...]


def shortened(t: ArrayType, axis: Cut, steps: int, some: int) -> ArrayType:
    """The type of some steps of a value that has so many."""
    return t if axis is None else t.update(shape=_shortened(t.shape, axis, steps, some))


def _shortened(shape: Sequence[int], axis: int, steps: int, some: int) -> tuple[int, ...]:
    return (*shape[:axis], shape[axis] // steps * some, *shape[axis + 1 :])


def cut(node: Node, in_types: Sequence[ArrayType], axes: Sequence[int], steps: int, some: int, start: int = 0) -> Part:
    """Some of the steps of a node's results, which are cut along these axes.

    Arguments:
        steps: how many there are.
        some, start: how many are computed, and the first one.

    Raises:
        NotCut: that cannot be computed from parts of its operands.
    """
    if node.primitive.name == "fused":
        return _cut_region(node, axes, steps, some, start)
    if len(set(axes)) > 1:
        raise NotCut
    if _counts(node, axes[0]):
        raise NotCut
    cuts = operand_cuts(node, in_types, axes[0], steps)
    return Part(_shorter(node, axes[0], steps, some), tuple(enumerate(cuts)))


def _shorter(node: Node, axis: int, steps: int, some: int) -> Node:
    """A primitive's node for some steps of its results."""
    out_types = tuple(shortened(t, axis, steps, some) for t in node.out_types)
    name = _SHAPES.get(node.primitive.name)
    params = node.params
    if name is not None:
        params = Params({**params, name: _shortened(params[name], axis, steps, some)})
    return node._replace(params=params, out_types=out_types)


def _counts(node: Node, axis: Cut) -> bool:
    """Whether a node counts the elements along an axis."""
    return node.primitive.name == "iota" and node.params["dimension"] == axis


def _cut_region(node: Node, axes: Sequence[int], steps: int, some: int, start: int) -> Part:
    asg: Asg = node.params["asg"]
    builder, new, operands = _cut_graph(asg, asg.outputs, axes, steps, some, start)
    graph = builder.build([new[value, axis] for value, axis in zip(asg.outputs, axes, strict=True)], name=asg.name)
    return Part(_region(node, graph), operands)


def _region(node: Node, graph: Asg) -> Node:
    """A region like this one, that computes another graph."""
    return node._replace(params=Params({**node.params, "asg": graph}), out_types=graph.out_types)


def _cut_graph(
    asg: Asg, outputs: Sequence[int], axes: Sequence[Cut], steps: int, some: int, start: int
) -> tuple[GraphBuilder, dict[tuple[int, Cut], int], tuple[tuple[int, Cut], ...]]:
    """The part of a graph that computes some steps of values that are cut along these axes.

    Returns:
        a builder with its nodes; the new numbers of values, by old number and cut; and what its inputs are.
    """
    types = asg.value_types
    wanted: list[dict[Cut, None]] = [{} for _ in types]  # the ways in which each value is needed
    for value, axis in zip(outputs, axes, strict=True):
        wanted[value][axis] = None
    reads: dict[tuple[int, Cut], list[Cut]] = {}
    for index in range(len(asg.nodes) - 1, -1, -1):
        inner, first = asg.nodes[index], asg.first_outputs[index]
        for way in _ways(wanted[first : first + len(inner.out_types)]):
            cuts: list[Cut] = [None] * len(inner.inputs)
            if way is not None:
                cuts = operand_cuts(inner, [types[i] for i in inner.inputs], way, steps)
            reads[index, way] = cuts
            for value, how in zip(inner.inputs, cuts, strict=True):
                wanted[value][how] = None
    n = len(asg.inputs)
    if any(axis is not None for known in wanted[n : n + len(asg.constants)] for axis in known):
        raise NotCut
    operands = [(k, axis) for k in range(n) for axis in wanted[k]]
    # numbers of elements go on from those of the parts before
    counted = [(index, axis) for index, axis in reads if _counts(asg.nodes[index], axis)]
    firsts = [asg.nodes[index].out_types[0].update(shape=()) for index, _ in counted]
    lengths = [asg.nodes[index].out_types[0].shape[axis] for index, axis in counted]  # type: ignore[index]
    if any(t.dtype.kind not in "iu" for t in firsts):
        raise NotCut
    builder = GraphBuilder(
        [shortened(types[k], axis, steps, some) for k, axis in operands],
        [*asg.constants, *(np.array(m // steps * start, t.dtype) for m, t in zip(lengths, firsts, strict=True))],
        [*asg.constant_types, *firsts],
    )
    new: dict[tuple[int, Cut], int] = {operand: k for k, operand in enumerate(operands)}
    new |= {(n + k, None): len(operands) + k for k in range(len(asg.constants))}
    first_number = {key: len(operands) + len(asg.constants) + k for k, key in enumerate(counted)}
    for index, (inner, first) in enumerate(zip(asg.nodes, asg.first_outputs, strict=True)):
        for way in _ways(wanted[first : first + len(inner.out_types)]):
            shorter = inner if way is None else _shorter(inner, way, steps, some)
            inputs = [new[value, how] for value, how in zip(inner.inputs, reads[index, way], strict=True)]
            made = builder.add(shorter, inputs)
            if (index, way) in first_number:
                shifted = Node(add_p, (made[0], first_number[index, way]), Params(), shorter.out_types)
                made = builder.add(shifted)
            for k, value in enumerate(made):
                new[first + k, way] = value
    return builder, new, tuple(operands)


# ---------------------------------------------------------------------------------------------- sums
class Sum(NamedTuple):
    """A node of a region that sums along an axis of its operands, and how these are cut along it."""

    number: int
    axes: tuple[int, ...]
    steps: int


SUMS = ("dot_general", *(f"reduce_{name}" for name in ("sum", "max", "min", "prod", "and", "or", "xor")))


def summed_axes(node: Node, in_types: Sequence[ArrayType]) -> list[tuple[int, ...]]:
    """The axes along which a node sums: of each operand its own."""
    if node.primitive.name == "dot_general":
        (left, right), _ = node.params["dimension_numbers"]
        return [*zip(left, right, strict=True)]
    if node.primitive.name in SUMS:
        return [(axis,) * len(in_types) for axis in node.params["axes"]]
    return []


def sums_of(asg: Asg) -> list[Sum]:
    """The ways to cut a graph's only sum; none if it has several."""
    indices = [k for k, node in enumerate(asg.nodes) if node.primitive.name in SUMS]
    if len(indices) != 1:
        return []
    types = [asg.value_types[i] for i in asg.nodes[indices[0]].inputs]
    return [Sum(indices[0], axes, types[0].shape[axes[0]]) for axes in summed_axes(asg.nodes[indices[0]], types)]


def cut_sum(node: Node, found: Sum, some: int, start: int = 0) -> Part:
    """The sum of a region, over some of the steps along an axis.

    Raises:
        NotCut: that cannot be computed from parts of the region's operands.
    """
    asg: Asg = node.params["asg"]
    total = asg.nodes[found.number]
    builder, new, operands = _cut_graph(asg, total.inputs, found.axes, found.steps, some, start)
    made = builder.add(total, [new[value, axis] for value, axis in zip(total.inputs, found.axes, strict=True)])
    return Part(_region(node, builder.build(list(made), name=asg.name)), operands)


def after_sum(asg: Asg, found: Sum) -> Asg:
    """What a graph computes with its sum, which is its last input."""
    n = len(asg.inputs)
    types = asg.value_types
    total = asg.first_outputs[found.number]
    builder = GraphBuilder([*asg.inputs, types[total]], asg.constants, asg.constant_types)
    new = {k: k if k < n else k + 1 for k in range(n + len(asg.constants))}
    new[total] = n
    for index, (inner, first) in enumerate(zip(asg.nodes, asg.first_outputs, strict=True)):
        if index != found.number:
            new |= {first + k: made for k, made in enumerate(builder.add(inner, [new[i] for i in inner.inputs]))}
    return prune(builder.build([new[i] for i in asg.outputs], name=asg.name))


def _ways(wanted: Sequence[dict[Cut, None]]) -> list[Cut]:
    """The ways in which the results of a node are needed."""
    return list({way: None for known in wanted for way in known})


# ---------------------------------------------------------------------------------------------- primitives
# parameters that are the result's shape, or have its length
_SHAPES = {"broadcast_in_dim": "shape", "reshape": "new_sizes", "iota": "shape", "slice": "limit_indices"}
Rule = Callable[[Any, Sequence[ArrayType], ArrayType, int, int], "list[Cut]"]
_RULES: dict[str, Rule] = {}


def operand_cuts(node: Node, in_types: Sequence[ArrayType], axis: int, steps: int) -> list[Cut]:
    """How a primitive's operands are cut, if its results are cut along an axis."""
    out = node.out_types[0]
    rule = _RULES.get(node.primitive.name, _elementwise)
    if rule is _elementwise and node.primitive.category != "convert" and role_of(node, in_types) != ELEMENTWISE:
        raise NotCut
    return rule(node.params, in_types, out, axis, steps)


def _elementwise(params: Any, ins: Sequence[ArrayType], out: ArrayType, axis: int, steps: int) -> list[Cut]:
    if any(t.shape not in (out.shape, ()) for t in ins):
        raise NotCut  # as a bitcast between widths
    return [axis if t.shape else None for t in ins]


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


@_rule("copy", "name", "stop_gradient")
def _same(params: Any, ins: Sequence[ArrayType], out: ArrayType, axis: int, steps: int) -> list[Cut]:
    return [axis] * len(ins)


@_rule("broadcast_in_dim")
def _broadcast(params: Any, ins: Sequence[ArrayType], out: ArrayType, axis: int, steps: int) -> list[Cut]:
    dims = params["broadcast_dimensions"]
    if axis not in dims:
        return [None]
    k = dims.index(axis)
    return [k if ins[0].shape[k] == out.shape[axis] else None]


@_rule("reshape", "squeeze", "expand_dims")
def _reshape(params: Any, ins: Sequence[ArrayType], out: ArrayType, axis: int, steps: int) -> list[Cut]:
    before, shape = prod(out.shape[:axis]), ins[0].shape
    for k, length in enumerate(shape):
        if prod(shape[:k]) == before and length % steps == 0:
            return [k]
    raise NotCut


@_rule("transpose")
def _transpose(params: Any, ins: Sequence[ArrayType], out: ArrayType, axis: int, steps: int) -> list[Cut]:
    return [params["permutation"][axis]]


@_rule("slice")
def _slice(params: Any, ins: Sequence[ArrayType], out: ArrayType, axis: int, steps: int) -> list[Cut]:
    strides = params["strides"]
    if out.shape[axis] != ins[0].shape[axis] or (strides and strides[axis] != 1):
        raise NotCut
    return [axis]


@_rule("pad")
def _pad(params: Any, ins: Sequence[ArrayType], out: ArrayType, axis: int, steps: int) -> list[Cut]:
    if params["padding_config"][axis] != (0, 0, 0):
        raise NotCut
    return [axis, None]


@_rule("rev")
def _rev(params: Any, ins: Sequence[ArrayType], out: ArrayType, axis: int, steps: int) -> list[Cut]:
    return _along(axis, params["dimensions"], ins)


@_rule("concatenate", "sort")
def _by_dimension(params: Any, ins: Sequence[ArrayType], out: ArrayType, axis: int, steps: int) -> list[Cut]:
    return _along(axis, (params["dimension"],), ins)


@_rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _cumulative(params: Any, ins: Sequence[ArrayType], out: ArrayType, axis: int, steps: int) -> list[Cut]:
    return _along(axis, (params["axis"],), ins)


def _along(axis: int, used: Sequence[int], ins: Sequence[ArrayType]) -> list[Cut]:
    """Operands are cut as the result, unless something goes on along that axis."""
    if axis in used:
        raise NotCut
    return [axis] * len(ins)


@_rule("iota")
def _iota(params: Any, ins: Sequence[ArrayType], out: ArrayType, axis: int, steps: int) -> list[Cut]:
    return []


@_rule(*(f"reduce_{name}" for name in ("sum", "max", "min", "prod", "and", "or", "xor")), "argmax", "argmin")
def _reduce(params: Any, ins: Sequence[ArrayType], out: ArrayType, axis: int, steps: int) -> list[Cut]:
    kept = [d for d in range(ins[0].ndim) if d not in params["axes"]]
    return [kept[axis]] * len(ins)


@_rule("dot_general")
def _dot(params: Any, ins: Sequence[ArrayType], out: ArrayType, axis: int, steps: int) -> list[Cut]:
    (left, right), (left_batch, right_batch) = params["dimension_numbers"]
    if axis < len(left_batch):
        return [left_batch[axis], right_batch[axis]]
    axis -= len(left_batch)
    free = [d for d in range(ins[0].ndim) if d not in (*left, *left_batch)]
    if axis < len(free):
        return [free[axis], None]
    return [None, [d for d in range(ins[1].ndim) if d not in (*right, *right_batch)][axis - len(free)]]


@_rule("conv_general_dilated")
def _convolution(params: Any, ins: Sequence[ArrayType], out: ArrayType, axis: int, steps: int) -> list[Cut]:
    dims = params["dimension_numbers"]
    if axis != dims.out_spec[0] or params["batch_group_count"] != 1:
        raise NotCut
    return [dims.lhs_spec[0], None]


@_rule("gather")
def _gather(params: Any, ins: Sequence[ArrayType], out: ArrayType, axis: int, steps: int) -> list[Cut]:
    dims = params["dimension_numbers"]
    if axis in dims.offset_dims or dims.operand_batching_dims:
        raise NotCut
    return [None, [d for d in range(out.ndim) if d not in dims.offset_dims].index(axis)]
