"""What each operation is to fusion: its role in a region, and roughly what it costs an element.

A role follows from the primitive's category; the names below are the exceptions, and what a category cannot tell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asgfn.graph.asg import Node
from asgfn.graph.types import ArrayType

ELEMENTWISE = "elementwise"  # result[i] depends on operand[i]
VIEW = "view"  # result[i] is operand[g(i)]: index arithmetic of whoever reads it
REDUCTION = "reduction"
CONTRACTION = "contraction"
OPAQUE = "opaque"  # a kernel of its own

_BY_CATEGORY = {
    "arithmetic": ELEMENTWISE,
    "transcendental": ELEMENTWISE,
    "activation": ELEMENTWISE,
    "comparison": ELEMENTWISE,
    "logical": ELEMENTWISE,
    "convert": ELEMENTWISE,
    "contraction": CONTRACTION,
}

_BY_NAME = {
    **dict.fromkeys(
        ("broadcast_in_dim", "reshape", "squeeze", "transpose", "slice", "rev", "pad", "concatenate"), VIEW
    ),
    **dict.fromkeys(("iota", "copy", "name", "stop_gradient"), VIEW),
    **dict.fromkeys(("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "argmax", "argmin"), REDUCTION),
    **dict.fromkeys(("reduce_and", "reduce_or", "reduce_xor"), REDUCTION),
    "threefry2x32": ELEMENTWISE,
}

# results that are their operand's memory under another shape: no kernel at all
ALIASES = frozenset(("reshape", "squeeze", "copy", "name", "stop_gradient", "optimization_barrier"))

_COST_BY_CATEGORY = {"transcendental": 10, "activation": 10}
_COST_BY_NAME = {
    **dict.fromkeys(("div", "rem", "sqrt", "rsqrt", "integer_pow", "atan2", "nextafter"), 4),
    **dict.fromkeys(
        ("lgamma", "digamma", "polygamma", "zeta", "igamma", "igammac", "regularized_incomplete_beta"), 100
    ),
    **dict.fromkeys(("igamma_grad_a", "random_gamma_grad", "threefry2x32"), 100),
}

# In the same unit, an arithmetic operation: reading an element from memory once more.
LOAD_COST = 8
# What a scalar may cost to be computed wherever it is used, if nobody says otherwise.
SCALAR_COST = 48


def role_of(node: Node, in_types: Sequence[ArrayType]) -> str:
    """The role of a node with operands of these types."""
    prim, out_types = node.primitive, node.out_types
    role = _BY_NAME.get(prim.name) or _BY_CATEGORY.get(prim.category, OPAQUE)
    if role == OPAQUE or prim.effect:
        return OPAQUE
    if 0 in [t.size for t in (*in_types, *out_types)]:
        return OPAQUE  # nothing to compute, and no loop to put it in
    if role == ELEMENTWISE:
        shape = out_types[0].shape
        for t in in_types:
            if t.shape != shape and t.shape:
                return OPAQUE  # a bitcast between widths, keys that broadcast as in NumPy
        if prim.name == "convert_element_type" and _widens(in_types[0].dtype, out_types[0].dtype):
            return VIEW  # repeated in every reader: the narrow form is what should be stored
    return role


def _widens(source: np.dtype, target: np.dtype) -> bool:
    return target.itemsize >= source.itemsize


def cost_of(node: Node) -> int:
    """Arithmetic operations an element, roughly."""
    prim = node.primitive
    found = _COST_BY_NAME.get(prim.name)
    if found is not None:
        return found
    return 0 if _BY_NAME.get(prim.name) == VIEW else _COST_BY_CATEGORY.get(prim.category, 1)
