"""Immutable edits: each returns a new graph; undo is keeping the old one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asgfn.errors import AsgError, GraphError
from asgfn.graph.asg import Asg, Node, Params
from asgfn.graph.types import ArrayType


class GraphBuilder:
    """Assembles a graph whose value ids change on the way.

    `add_*` methods return new ids; the caller maps the old graph's ids to them.
    """

    def __init__(
        self, inputs: Sequence[ArrayType], constants: Sequence[Any] = (), constant_types: Sequence[ArrayType] = ()
    ):
        self.inputs = list(inputs)
        self.constants = list(constants)
        self.constant_types = list(constant_types)
        self.nodes: list[Node] = []
        self._next = len(self.inputs) + len(self.constants)

    def add(self, node: Node, inputs: Sequence[int] | None = None) -> range:
        """Appends a node (reading `inputs` instead of its own ids) and returns the ids of its outputs."""
        self.nodes.append(node if inputs is None else node.reading(inputs))
        first = self._next
        self._next += len(node.out_types)
        return range(first, self._next)

    def build(self, outputs: Sequence[int], **attributes: Any) -> Asg:
        """The finished graph."""
        return Asg(self.inputs, self.constants, self.nodes, outputs, constant_types=self.constant_types, **attributes)


def reorder(asg: Asg, inputs: Sequence[int] | None = None, outputs: Sequence[int] | None = None) -> Asg:
    """The same program with its inputs in another order (`inputs[i]` is the old position of the new input i) and the
    outputs at the old positions `outputs` (some may be left out or repeated)."""
    out_ids = [asg.outputs[i] for i in outputs] if outputs is not None else list(asg.outputs)
    names = asg.input_names
    if inputs is None or list(inputs) == list(range(len(asg.inputs))):
        return asg.replace(outputs=out_ids, out_tree=None)
    n = len(asg.inputs)
    if sorted(inputs) != list(range(n)):
        raise GraphError(f"reorder: {list(inputs)} is not an order of {n} inputs")
    place = {old: new for new, old in enumerate(inputs)}

    def moved(i: int) -> int:
        return place[i] if i < n else i

    nodes = [node.reading(map(moved, node.inputs)) for node in asg.nodes]
    return asg.replace(
        inputs=[asg.inputs[i] for i in inputs],
        input_names=[names[i] for i in inputs],
        nodes=nodes,
        outputs=[moved(i) for i in out_ids],
        in_tree=None,
        out_tree=None,
    )


def prune(asg: Asg, effects: bool = True) -> Asg:
    """The graph without nodes and constants that no output needs; effects (prints, callbacks) stay unless told otherwise."""
    n, firsts = len(asg.inputs), asg.first_outputs
    live = bytearray(len(asg.value_types))
    for i in asg.outputs:
        live[i] = 1
    keep = [False] * len(asg.nodes)
    for index in range(len(asg.nodes) - 1, -1, -1):
        node = asg.nodes[index]
        first = firsts[index]
        prim = node.primitive
        if (
            1 in live[first : first + len(node.out_types)]
            or (effects and (prim.effect or prim.holds_graphs) and prim.is_effectful(node.params))
        ):  # fmt: skip
            keep[index] = True
            for i in node.inputs:
                live[i] = 1
    kept_constants = [k for k in range(len(asg.constants)) if live[n + k]]
    if all(keep) and len(kept_constants) == len(asg.constants):
        return asg
    builder = GraphBuilder(
        asg.inputs, [asg.constants[k] for k in kept_constants], [asg.constant_types[k] for k in kept_constants]
    )
    new = [*range(n), *[-1] * len(asg.constants)]
    for i, k in enumerate(kept_constants, n):
        new[n + k] = i
    for node, kept in zip(asg.nodes, keep, strict=True):
        new += builder.add(node, [new[i] for i in node.inputs]) if kept else [-1] * len(node.out_types)
    return builder.build(
        [new[i] for i in asg.outputs],
        name=asg.name,
        input_names=asg.input_names,
        in_tree=asg.in_tree,
        out_tree=asg.out_tree,
    )


def extract(asg: Asg, outputs: Sequence[int]) -> Asg:
    """The part of a graph that computes these values (given by id), without effects; the inputs stay."""
    return prune(asg.replace(outputs=tuple(outputs), out_tree=None), effects=False)


def rebuild(asg: Asg, edit: Callable[[GraphBuilder, int, Node, Sequence[int]], Sequence[int]]) -> Asg:
    """Walks a graph and lets `edit(builder, index, node, inputs)` say which new values stand for each node's outputs."""
    builder = GraphBuilder(asg.inputs, asg.constants, asg.constant_types)
    new = list(range(len(asg.inputs) + len(asg.constants)))
    for index, node in enumerate(asg.nodes):
        made = edit(builder, index, node, [new[i] for i in node.inputs])
        if len(made) != len(node.out_types):
            raise GraphError(
                f"edit of node {index} ({node.primitive}) gave {len(made)} values for {len(node.out_types)} outputs"
            )
        new.extend(made)
    return builder.build(
        [new[i] for i in asg.outputs],
        name=asg.name,
        input_names=asg.input_names,
        in_tree=asg.in_tree,
        out_tree=asg.out_tree,
    )


def _retyped(node: Node, in_types: Sequence[ArrayType]) -> Node:
    try:
        out = node.primitive.type_rule(*in_types, **node.params)
    except AsgError:
        raise
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise GraphError(f"{node.primitive} does not take these operands and parameters: {error}") from None
    return node._replace(out_types=tuple(out) if node.primitive.multiple_results else (out,))


def replace_node(asg: Asg, index: int, primitive: Any, params: Mapping[str, Any] | None = None) -> Asg:
    """Swaps the operation of one node; types downstream are derived again.

    Raises:
        GraphError: there is no such node.
        AsgError: from a type rule, when the new types do not fit.
    """
    _check_index(asg, index)
    node = asg.nodes[index]
    return _with_nodes(asg, {index: node._replace(primitive=primitive, params=Params(params or {}))})


def _with_nodes(asg: Asg, changed: Mapping[int, Node]) -> Asg:
    types = [*asg.inputs, *asg.constant_types]
    nodes = []
    for index, node in enumerate(asg.nodes):
        node = _retyped(changed.get(index, node), [types[i] for i in node.inputs])
        types.extend(node.out_types)
        nodes.append(node)
    return asg.replace(nodes=nodes)


def insert_after(asg: Asg, value: int, primitive: Any, params: Mapping[str, Any] | None = None) -> Asg:
    """Puts a one-operand operation between a value (by id) and everything that reads it, outputs included.

    Raises:
        GraphError: there is no such value.
        AsgError: from a type rule, when types downstream no longer fit.
    """
    if not 0 <= value < len(asg.value_types):
        raise GraphError(f"insert_after: the graph has no value {value}")
    builder = GraphBuilder(asg.inputs, asg.constants, asg.constant_types)
    types = [*asg.inputs, *asg.constant_types]
    new: dict[int, int] = {}

    def insert(i: int) -> None:
        node = _retyped(Node(primitive, (i,), Params(params or {}), ()), [types[i]])
        types.extend(node.out_types)
        new[value] = builder.add(node)[0]

    for i in range(len(types)):
        new[i] = i
    if value < len(types):
        insert(value)
    for node, first in zip(asg.nodes, asg.first_outputs, strict=True):
        inputs = [new[i] for i in node.inputs]
        node = _retyped(node, [types[i] for i in inputs])
        types.extend(node.out_types)
        for k, i in enumerate(builder.add(node, inputs)):
            new[first + k] = i
            if first + k == value:
                insert(i)
    return builder.build(
        [new[i] for i in asg.outputs],
        name=asg.name,
        input_names=asg.input_names,
        in_tree=asg.in_tree,
        out_tree=asg.out_tree,
    )


def delete_node(asg: Asg, index: int, through: int = 0) -> Asg:
    """Removes a node with one output; who read it reads its operand number `through` instead.

    Raises:
        GraphError: no such node, several outputs, or no such operand.
        AsgError: from a type rule, when types downstream no longer fit.
    """
    _check_index(asg, index)
    node = asg.nodes[index]
    if len(node.out_types) != 1 or not 0 <= through < len(node.inputs):
        raise GraphError(
            f"delete_node: node {index} ({node.primitive}) has {len(node.out_types)} outputs and {len(node.inputs)} operands"
        )
    builder = GraphBuilder(asg.inputs, asg.constants, asg.constant_types)
    types = [*asg.inputs, *asg.constant_types]
    new = {i: i for i in range(len(types))}
    for k, (other, first) in enumerate(zip(asg.nodes, asg.first_outputs, strict=True)):
        inputs = [new[i] for i in other.inputs]
        if k == index:
            new[first] = inputs[through]
            continue
        other = _retyped(other, [types[i] for i in inputs])
        types.extend(other.out_types)
        for j, i in enumerate(builder.add(other, inputs)):
            new[first + j] = i
    return builder.build(
        [new[i] for i in asg.outputs],
        name=asg.name,
        input_names=asg.input_names,
        in_tree=asg.in_tree,
        out_tree=asg.out_tree,
    )


def _check_index(asg: Asg, index: int) -> None:
    if not 0 <= index < len(asg.nodes):
        raise GraphError(f"the graph has {len(asg.nodes)} nodes; there is no node {index}")
