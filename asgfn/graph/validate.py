"""Checks a graph from scratch: ids, order, arity, and every type derived again from the inputs."""

from __future__ import annotations

import numpy as np

from asgfn.errors import AsgError, GraphError
from asgfn.graph.asg import Asg, inner_graphs
from asgfn.graph.types import ArrayType


def validate(asg: Asg) -> Asg:
    """Derives every type again from the inputs and checks ids, order and types, in inner graphs too. Returns the graph.

    Raises:
        GraphError: naming the node at fault.
    """
    where = f"graph {asg.name or '<lambda>'}"
    types: list[ArrayType] = [*asg.inputs, *asg.constant_types]
    for k, t in enumerate(types):
        if not isinstance(t, ArrayType):
            raise GraphError(f"{where}: the type of value {k} is {t!r}, not an ArrayType")
    if len(asg.constants) != len(asg.constant_types):
        raise GraphError(f"{where}: {len(asg.constants)} constants but {len(asg.constant_types)} constant types")
    for k, (c, t) in enumerate(zip(asg.constants, asg.constant_types, strict=True)):
        if not isinstance(c, np.ndarray) or c.shape != t.shape or c.dtype != t.dtype:
            raise GraphError(f"{where}: constant {k} is not an array of type {t}")
    for index, node in enumerate(asg.nodes):
        label = f"{where}, node {index} ({node.primitive})"
        for i in node.inputs:
            if not isinstance(i, int) or not 0 <= i < len(types):
                raise GraphError(f"{label}: operand {i!r} is not a value that exists before the node")
        for graph in inner_graphs(node.params):
            validate(graph)
        try:
            out = node.primitive.type_rule(*(types[i] for i in node.inputs), **node.params)
        except AsgError as error:  # quoted without its place: the new error has it
            raise GraphError(f"{label}: {error.args[0]}") from None
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise GraphError(f"{label}: {error}") from None
        try:
            hash(node.params)
        except TypeError as error:
            raise GraphError(f"{label}: a parameter is not hashable ({error}): use tuples instead of lists") from None
        if not all(isinstance(t, ArrayType) for t in node.out_types):
            raise GraphError(f"{label}: its outputs are declared as {node.out_types}, which are not all ArrayTypes")
        derived = tuple(out) if node.primitive.multiple_results else (out,)
        same = len(derived) == len(node.out_types) and all(
            a.shape == b.shape and a.dtype == b.dtype for a, b in zip(derived, node.out_types, strict=True)
        )
        if not same:
            raise GraphError(
                f"{label}: its outputs are declared as ({', '.join(map(str, node.out_types))}) but must be ({', '.join(map(str, derived))})"
            )
        types.extend(node.out_types)
    for i in asg.outputs:
        if not isinstance(i, int) or not 0 <= i < len(types):
            raise GraphError(f"{where}: output {i!r} is not a value of the graph")
    return asg
