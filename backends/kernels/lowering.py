"""From the nodes of a fused graph to kernels.

A node becomes a `Plan`: kernels in the order in which they run, and which memory each is called with. How a node is
computed is chosen by its kind (for regions) or its primitive; whatever has no plan of its own, but whose elements can be
asked for, is computed element by element. A node for which there is no plan at all runs on the host.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from asgfn.graph.asg import Asg, Node
from asgfn.graph.edit import GraphBuilder
from asgfn.graph.types import ArrayType
from asgfn.records import record
from backends.kernels.depth import room_for
from backends.kernels.elements import REDUCTIONS, supports
from backends.kernels.ir import Kernel
from backends.kernels.target import Target


class Argument(NamedTuple):
    """Memory that a kernel is called with: number `number` of the node's inputs, its outputs, or the plan's own."""

    kind: str  # "input", "output", "constant" or "temporary"
    number: int


class Stage(NamedTuple):
    """A kernel and its memories, in the order of `kernel.memories`."""

    kernel: Kernel
    arguments: tuple[Argument, ...]


@record
class Plan:
    """How a node is computed.

    Attributes:
        stages: kernels in the order in which they run. Each sees what those before it wrote.
        constants: arrays (in the device's representation) that the kernels read.
        temporaries: type (of the IR) and number of elements of memories that live during the node.
        copies: pairs (input, output): the output has to start as a copy of the input, or be its memory.
        zeros: outputs and temporaries that have to start as zeros.
    """

    stages: tuple[Stage, ...]
    constants: tuple[np.ndarray, ...] = ()
    temporaries: tuple[tuple[str, int], ...] = ()
    copies: tuple[tuple[int, int], ...] = ()
    zeros: tuple[Argument, ...] = ()


# a maker of plans gets a graph of one node or region, and may give up with None
Maker = Callable[[Asg, Target], "Plan | None"]
_by_kind: dict[str, Maker] = {}
_by_primitive: dict[str, Maker] = {}
# which module of `schedules` has the maker for a kind of region or a primitive: it is loaded when there is one
_SCHEDULES: dict[str, tuple[str, ...]] = {
    "attention": ("attention", "attention_gradient"),
    "contraction": ("contraction", "dot_general", "conv_general_dilated"),
    "elementwise_plan": ("elementwise",),
    "group": ("group",),
    "indexing": (
        "scatter", "scatter_add", "scatter_mul", "scatter_min", "scatter_max", "dynamic_update_slice",
    ),
    "rows": ("reduction", *REDUCTIONS),
    "scans": ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"),
    "sorting": ("sort", "top_k"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _SCHEDULES.items() for name in names}


def _registered(makers: dict[str, Maker], names: Sequence[str]) -> Callable[[Maker], Maker]:
    def register(maker: Maker) -> Maker:
        makers.update(dict.fromkeys(names, maker))
        return maker

    return register


def _maker(makers: dict[str, Maker], name: str) -> Maker | None:
    if name in _MODULE_OF and name not in makers:
        importlib.import_module(f"backends.kernels.schedules.{_MODULE_OF[name]}")
    return makers.get(name)


def plan_for_kind(*kinds: str) -> Callable[[Maker], Maker]:
    """Registers how regions of a kind ("elementwise", "reduction", "contraction", "group") are computed."""
    return _registered(_by_kind, kinds)


def plan_for_primitive(*names: str) -> Callable[[Maker], Maker]:
    """Registers how a primitive that stands alone is computed."""
    return _registered(_by_primitive, names)


def lower(node: Node, in_types: Sequence[ArrayType], target: Target) -> Plan | None:
    """The plan of a node of a fused graph; None if it has to run on the host.

    Nodes that hold graphs other than `fused` (loops, branches) are the caller's.
    """
    if node.primitive.name == "fused":
        with room_for(_operations(node.params["asg"])):
            return lower_region(node.params["asg"], node.params["kind"], target)
    asg = single(node, in_types)
    maker = _maker(_by_primitive, node.primitive.name)
    found = maker(asg, target) if maker is not None else None
    return found if found is not None else lower_region(asg, "elementwise", target)


def _operations(asg: Asg) -> int:
    return sum(_operations(n.params["asg"]) if n.primitive.name == "fused" else 1 for n in asg.nodes)


def lower_region(asg: Asg, kind: str, target: Target) -> Plan | None:
    """The plan of a region; None if the host has to compute it."""
    if kind != "group" and not supports(asg, target.types):
        return None
    maker = _maker(_by_kind, kind)
    found = maker(asg, target) if maker is not None else None
    if found is None and kind not in ("elementwise", "group"):
        return lower_region(asg, "elementwise", target)
    return found


def single(node: Node, in_types: Sequence[ArrayType]) -> Asg:
    """A graph of one node, whose inputs are the node's."""
    builder = GraphBuilder(list(in_types))
    outputs = builder.add(node, list(range(len(in_types))))
    return builder.build(list(outputs), name=node.primitive.name)


def constants_of(asg: Asg, target: Target) -> tuple[np.ndarray, ...]:
    """The constants of a graph that are not scalars, as the device has them."""
    return tuple(
        np.asarray(c).astype(target.types.numpy_storage(t.dtype))
        for c, t in zip(asg.constants, asg.constant_types, strict=True)
        if t.shape
    )


def plan_of(kernel: Kernel, asg: Asg, target: Target, **more: Any) -> Plan:
    """The plan that is one kernel, whose memories are the graph's inputs, its constants that are not scalars, its outputs."""
    constants = constants_of(asg, target)
    arguments = [Argument("input", k) for k in range(len(asg.inputs))]
    arguments += [Argument("constant", k) for k in range(len(constants))]
    arguments += [Argument("output", k) for k in range(len(asg.outputs))]
    return Plan((Stage(kernel, tuple(arguments)),), constants=constants, **more)
