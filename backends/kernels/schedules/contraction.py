"""Regions around a matrix product or a convolution, and these alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

from asgfn.graph.asg import Asg, Node, Params
from asgfn.graph.edit import GraphBuilder, extract, prune
from asgfn.graph.types import ArrayType
from asgfn.primitives.shaping import transpose_p
from backends.kernels.elements_conv import ConvolutionAxes
from backends.kernels.lowering import (
    Argument,
    Plan,
    Stage,
    lower_region,
    plan_for_kind,
    plan_for_primitive,
)
from backends.kernels.schedules.contraction_region import CONTRACTIONS, Region
from backends.kernels.schedules.tiles import WIDE
from backends.kernels.target import Target

# a convolution's kernel is brought into another order if it has so many output features, used so many times
PACKED_FEATURES = 16
PACKED_USES = 1024


@plan_for_kind("contraction")
@plan_for_primitive(*CONTRACTIONS)
def plan(asg: Asg, target: Target) -> Plan | None:
    """The contraction with its prologues and epilogue; the epilogue apart if it needs elements at other places."""
    if sum(node.primitive.name in CONTRACTIONS for node in asg.nodes) != 1:
        return None
    if not all(target.types.holds(t.dtype) for t in asg.value_types) or not all(t.size for t in asg.value_types):
        return None
    packed = None if target.simd else _packed(asg, target)
    if packed is not None:
        return packed
    region = Region(asg, target.types)
    if not region.is_aligned:
        return _in_two(asg, region, target)
    if target.simd:
        from backends.kernels.schedules.simd_contraction import best  # here: GPUs need none of it
    else:
        from backends.kernels.schedules.contraction_schedules import best  # here: processors need none of it
    return best(region, target)


# ---------------------------------------------------------------------------------------------- in two kernels
def _in_two(asg: Asg, region: Region, target: Target) -> Plan | None:
    """The contraction alone, and a kernel of what follows."""
    value, t = region.value, region.value_types[region.value]
    first = plan(extract(asg, [value]), target)
    rest = lower_region(_rest(asg, value), "elementwise", target)
    return None if first is None or rest is None else _chained(asg, first, t, rest, target)


def _packed(asg: Asg, target: Target) -> Plan | None:
    """A convolution whose kernel is first brought into an order in which its output features are neighbours; None if they
    are already, or if that is not worth a kernel of its own.

    Kernels are small and each of their elements is used many times. In this order the elements that a step needs are
    neighbours in memory whichever way the step goes through channels and taps.
    """
    (number,) = [k for k, node in enumerate(asg.nodes) if node.primitive.name in CONTRACTIONS]
    node = asg.nodes[number]
    if node.primitive.name != "conv_general_dilated":
        return None
    value, types = node.inputs[1], asg.value_types
    t, out = types[value], node.out_types[0]
    axes = ConvolutionAxes(node, types[node.inputs[0]].shape, t.shape)
    features, channels, *space = axes.rhs_spec
    uses = out.size // t.shape[features]  # of each element of the kernel
    small = axes.features < PACKED_FEATURES or axes.features % WIDE or uses < PACKED_USES
    if small or axes.is_gradient or math.prod(axes.taps) == 1 or t.ndim - 1 in (features, channels):
        return None
    order = (channels, *space, features)
    if value < len(asg.inputs) and features == 0 and order[:-1] == tuple(range(1, t.ndim)):
        # the same as a matrix, whose rows are read along memory
        flat = t.update(shape=(t.shape[0], t.size // t.shape[0]))
        builder = GraphBuilder([flat if i == value else x for i, x in enumerate(asg.inputs)])
        turned, order_ = value, (1, 0)
    else:
        before = extract(asg, [value])
        builder = GraphBuilder(before.inputs, before.constants, before.constant_types)
        for inner in before.nodes:
            builder.add(inner)
        (turned,) = before.outputs
        flat, order_ = t, order
    shape = tuple(flat.shape[d] for d in order_)
    view = Node(transpose_p, (turned,), Params(permutation=order_), (flat.update(shape=shape),))
    first = lower_region(builder.build([builder.add(view)[0]], name=f"{asg.name} kernel"), "elementwise", target)
    packed = t.update(shape=tuple(t.shape[d] for d in order))
    rest = plan(_with_kernel(asg, number, packed), target)
    return None if first is None or rest is None else _chained(asg, first, packed, rest, target)


def _with_kernel(asg: Asg, number: int, packed: ArrayType) -> Asg:
    """The graph whose convolution takes its kernel from one more input: channels, taps, output features."""
    n, axes = len(asg.inputs), tuple(range(packed.ndim))
    builder = GraphBuilder([*asg.inputs, packed], asg.constants, asg.constant_types)
    new = {i: i for i in range(n)} | {n + k: n + 1 + k for k in range(len(asg.constants))}
    for k, (node, first) in enumerate(zip(asg.nodes, asg.first_outputs, strict=True)):
        inputs = [new[i] for i in node.inputs]
        if k == number:
            numbers = node.params["dimension_numbers"]._replace(rhs_spec=(axes[-1], *axes[:-1]))
            node = node._replace(params=Params({**node.params, "dimension_numbers": numbers}))
            inputs[1] = n
        for j, made in enumerate(builder.add(node, inputs)):
            new[first + j] = made
    return prune(builder.build([new[i] for i in asg.outputs], name=asg.name), effects=False)


def _chained(asg: Asg, first: Plan, between: ArrayType, rest: Plan, target: Target) -> Plan:
    """The plan of a graph in two parts, of which the second has the result of the first as one more input."""
    product = Argument("temporary", len(first.temporaries) + len(rest.temporaries))
    moved = {
        **{Argument("constant", k): Argument("constant", k + len(first.constants)) for k in range(len(rest.constants))},
        **{
            Argument("temporary", k): Argument("temporary", k + len(first.temporaries))
            for k in range(len(rest.temporaries))
        },
        Argument("input", len(asg.inputs)): product,
    }
    return Plan(
        (*_renamed(first.stages, {Argument("output", 0): product}), *_renamed(rest.stages, moved)),
        (*first.constants, *rest.constants),
        (*first.temporaries, *rest.temporaries, (target.types.storage(between.dtype), between.size)),
    )


def _rest(asg: Asg, value: int) -> Asg:
    """What follows the contraction, whose result is one more input."""
    n = len(asg.inputs)
    builder = GraphBuilder([*asg.inputs, asg.value_types[value]], asg.constants, asg.constant_types)
    new = {i: i for i in range(n)} | {n + k: n + 1 + k for k in range(len(asg.constants))}
    for node, first in zip(asg.nodes, asg.first_outputs, strict=True):
        if first == value:
            new[value] = n
            continue
        for k, made in enumerate(builder.add(node, [new[i] for i in node.inputs])):
            new[first + k] = made
    return prune(builder.build([new[i] for i in asg.outputs], name=asg.name), effects=False)


def _renamed(stages: tuple[Stage, ...], moved: Mapping[Argument, Argument]) -> list[Stage]:
    return [Stage(s.kernel, tuple(moved.get(a, a) for a in s.arguments)) for s in stages]
