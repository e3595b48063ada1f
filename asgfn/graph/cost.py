"""How much work a graph is: floating point operations and bytes, counted from its nodes."""

from __future__ import annotations

import math
from typing import Any

from asgfn.graph.asg import Asg, Node
from asgfn.graph.types import ArrayType

_FREE = frozenset(("shape", "constant", "call", "input", "callback"))


def node_flops(node: Node, in_types: list[ArrayType]) -> float:
    """Floating point operations of one node; an element-wise function counts as one operation an element."""
    name = node.primitive.name
    if name == "dot_general":
        (lhs_contract, _), _ = node.params["dimension_numbers"]
        return 2.0 * node.out_types[0].size * math.prod(in_types[0].shape[i] for i in lhs_contract)
    if name == "conv_general_dilated":
        kernel = in_types[1]
        numbers = node.params["dimension_numbers"]
        out_feature = kernel.shape[numbers.rhs_spec[0]]
        return 2.0 * node.out_types[0].size * (kernel.size / max(out_feature, 1))
    inner = [v for v in node.params.values() if isinstance(v, Asg)]
    if name == "scan":
        return node.params["length"] * cost(node.params["asg"])["flops"]
    if name == "cond":
        return max(cost(b)["flops"] for b in node.params["branches"])
    if inner:  # a while loop counts one step: how many there are is not known
        return sum(cost(g)["flops"] for g in inner)
    if node.primitive.category in _FREE:
        return 0.0
    sizes = [t.size for t in in_types] if node.primitive.category == "reduction" else [t.size for t in node.out_types]
    return float(max(sizes, default=0))


def cost(asg: Asg) -> dict[str, Any]:
    """Totals of a graph.

    Returns:
        ``flops``; ``bytes accessed``: what the nodes read and write when run one by one.
    """
    types = asg.value_types
    flops = 0.0
    moved = 0
    for node in asg.nodes:
        ins = [types[i] for i in node.inputs]
        flops += node_flops(node, ins)
        moved += sum(t.nbytes for t in ins) + sum(t.nbytes for t in node.out_types)
    return {"flops": flops, "bytes accessed": float(moved)}
