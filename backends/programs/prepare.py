"""What is done to a graph before it is partitioned into kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn.graph.asg import Asg, Node, Params, inner_graphs
from asgfn.graph.edit import GraphBuilder, rebuild
from asgfn.graph.types import ArrayType
from asgfn.primitives.elementwise import clamp, ne, select_n
from asgfn.primitives.shaping import broadcast_in_dim
from asgfn.tracing import trace_flat
from asgfn.transforms.call import jit_p
from asgfn.transforms.interpret import run
from asgfn.transforms.region_roles import OPAQUE, role_of

# computing both sides of a branch of so many elements is cheaper than a kernel that chooses one
SMALL = 1 << 14


def without_small_branches(asg: Asg) -> Asg:
    """The graph with cheap branches computed, all of them, and the right results selected."""
    if not asg.inner:
        return asg

    def edit(builder: GraphBuilder, index: int, node: Node, inputs: Sequence[int]) -> Sequence[int]:
        if inner_graphs(node.params):
            node = node._replace(params=Params({k: _inner(v) for k, v in node.params.items()}))
        if node.primitive.name == "cond" and all(map(_is_cheap, node.params["branches"])):
            graph = _selecting(node.params["branches"])
            node = node._replace(primitive=jit_p, params=Params(asg=graph, name="cond"))
        return builder.add(node, inputs)

    return rebuild(asg, edit)


def _inner(value: Any) -> Any:
    if isinstance(value, Asg):
        return without_small_branches(value)
    if isinstance(value, tuple) and value and all(isinstance(v, Asg) for v in value):
        return tuple(map(without_small_branches, value))
    return value


def _is_cheap(branch: Asg) -> bool:
    types = branch.value_types
    if branch.has_effects or sum(t.size for node in branch.nodes for t in node.out_types) > SMALL:
        return False
    return all(role_of(node, [types[i] for i in node.inputs]) != OPAQUE for node in branch.nodes)


def _selecting(branches: Sequence[Asg]) -> Asg:
    """The graph that computes all branches and selects the results of one."""

    def all_of_them(index: Any, *operands: Any) -> list[Any]:
        which: Any = None
        if len(branches) > 2:
            which = clamp(np.int32(0), index, np.int32(len(branches) - 1))
        elif len(branches) == 2:
            which = ne(index, np.int32(0))
        results = []
        for cases in zip(*(run(b, operands) for b in branches), strict=True):
            if which is None or all(x is cases[0] for x in cases):
                results.append(cases[0])
            else:
                results.append(select_n(broadcast_in_dim(which, cases[0].shape, ()), *cases))
        return results

    types = [ArrayType((), np.int32), *branches[0].inputs]
    graph, _ = trace_flat(all_of_them, types, name="cond", why="cond")
    return graph


def with_late_updates(asg: Asg, donated: Sequence[bool]) -> Asg:
    """The graph with updates of donated inputs after whatever else reads these, so that they can be written in place.

    In a training step, the update of a layer's weights is computed with their gradient, but the gradient of the layer's
    input reads the weights, too.
    """
    if not any(donated):
        return asg
    results = set(asg.outputs)
    key: list[float] = []
    for index, (node, first) in enumerate(zip(asg.nodes, asg.first_outputs, strict=True)):
        made = range(first, first + len(node.out_types))
        is_last = all(i in results and not asg.users[i] for i in made)
        key.append(index)
        if not is_last or node.primitive.is_effectful(node.params):
            continue
        for i in set(node.inputs):
            if i < len(asg.inputs) and donated[i] and asg.inputs[i] in node.out_types:
                key[index] = max(key[index], *(reader + 0.5 for reader in asg.users[i] if reader != index), index)
    if all(k == index for index, k in enumerate(key)):
        return asg
    builder = GraphBuilder(asg.inputs, asg.constants, asg.constant_types)
    new = {i: i for i in range(len(asg.inputs) + len(asg.constants))}
    for index in sorted(range(len(asg.nodes)), key=key.__getitem__):
        node, first = asg.nodes[index], asg.first_outputs[index]
        for k, i in enumerate(builder.add(node, [new[i] for i in node.inputs])):
            new[first + k] = i
    labels = {k: getattr(asg, k) for k in ("name", "input_names", "in_tree", "out_tree")}
    return builder.build([new[i] for i in asg.outputs], **labels)
