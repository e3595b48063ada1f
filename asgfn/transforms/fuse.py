"""`fuse`: a program as the kernels that it will become.

The result is a graph whose nodes are regions, each a `fused` node that holds its part of the program. How the parts
are chosen is told in `asgfn.transforms.regions`; here they are cut out, and put back together by `unfuse`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, wraps
from itertools import takewhile
from typing import Any

from asgfn.graph.asg import Asg, Node, Params, inner_graphs
from asgfn.graph.caching import cached_by_graph
from asgfn.graph.edit import GraphBuilder, prune
from asgfn.primitives.base import Primitive
from asgfn.transforms.call import call_rules, call_type
from asgfn.transforms.function import as_function, check_leaves, leaf_names, trace_to_graph
from asgfn.transforms.interpret import run
from asgfn.transforms.region_masks import with_masks_of_results
from asgfn.transforms.region_roles import ALIASES
from asgfn.transforms.region_rules import FusionLimits
from asgfn.transforms.region_stores import recomputed
from asgfn.transforms.regions import ALIAS, GROUP, OPAQUE, Partitioner, Region
from asgfn.transforms.simplify import simplify
from asgfn.tree_util import tree_flatten, tree_unflatten

DEFAULT_LIMITS = FusionLimits()

# A derivative of a region need not be a region (that of a matrix product is two), so it is a plain call again.
fused_p = Primitive(
    "fused",
    category="call",
    type_rule=call_type,
    **call_rules("fused", derivative="jit"),
    multiple_results=True,
    holds_graphs=True,
    what="A part of a program that becomes one kernel.",
    formula="y = f(x)",
    why="Values inside never go through memory.",
)


def fuse(fun: Callable | Asg, *, limits: FusionLimits = DEFAULT_LIMITS) -> Callable:
    """The same function, partitioned into regions that each become one kernel.

    Arguments:
        fun: a function from pytrees of arrays to a pytree of arrays, or an Asg.
        limits: what fits into one kernel.

    Returns:
        a function with the same arguments and results. ``asgfn.trace(fuse(f))(*args)`` shows its regions as nodes
        `fused`; their kind is "elementwise", "reduction", "contraction", or "group" for independent regions that share
        a kernel.

    Example:
        >>> import asgfn, asgfn.numpy as jnp
        >>> from asgfn.transforms.fuse import fuse
        >>> asg = asgfn.trace(fuse(lambda x: jnp.exp(x) / jnp.exp(x).sum()))(jnp.ones(3))
        >>> [node.params["kind"] for node in asg.nodes]
        ['reduction']
    """
    f = as_function("fuse", fun)

    @wraps(f, updated=())
    def partitioned(*args: Any, **kwargs: Any) -> Any:
        leaves, _ = tree_flatten((args, kwargs))
        leaves = check_leaves(leaves, lambda: leaf_names(f, args, kwargs), "fuse", f)
        asg, captured, out_tree = trace_to_graph(f, args, kwargs, why="fuse", types=[x.aval for x in leaves])
        return tree_unflatten(out_tree, run(fuse_graph(asg, limits), [*leaves, *captured]))

    return partitioned


def fuse_graph(asg: Asg, limits: FusionLimits = DEFAULT_LIMITS) -> Asg:
    """The graph with its operations in regions, the bodies of loops and branches too. It is simplified first."""
    return _labelled(_fuse_graph(asg, limits), asg)


@cached_by_graph(256)
def _fuse_graph(asg: Asg, limits: FusionLimits) -> Asg:
    flat = simplify(asg)
    if any(node.primitive is fused_p for node in flat.nodes):
        flat = simplify(unfuse(flat))
    partitioner = Partitioner(with_masks_of_results(flat), limits)
    regions = partitioner.partition()
    return _Cutter(partitioner).cut(regions, limits)


def _labelled(result: Asg, asg: Asg) -> Asg:
    """The result with the names and the packing of the graph that it stands for: equal graphs may differ in these."""
    labels = _labels(asg)
    if _labels(result) == labels:
        return result
    return result.replace(**labels)


def _labels(asg: Asg) -> dict[str, Any]:
    return {"name": asg.name, "input_names": asg.input_names, "in_tree": asg.in_tree, "out_tree": asg.out_tree}


class _Cutter:
    """Builds the graph of regions."""

    def __init__(self, partitioner: Partitioner):
        self.partitioner = partitioner
        self.asg = asg = partitioner.asg
        self.recomputed, kept = recomputed(partitioner)
        self.stored = {*asg.outputs, *kept}  # values that leave a region: what another one reads, or the caller
        for value, readers in partitioner.readers.items():
            maker = partitioner.maker.get(value)
            if maker is not None and asg.producers[value] not in self.recomputed:
                home = partitioner.clusters[maker]
                if any(partitioner.clusters[r] is not home for r in readers):
                    self.stored.add(value)

    def cut(self, regions: Sequence[Region], limits: FusionLimits) -> Asg:
        asg = self.asg
        builder = GraphBuilder(asg.inputs, asg.constants, asg.constant_types)
        new = {i: i for i in range(len(asg.inputs) + len(asg.constants))}
        for region in regions:
            if region.kind == OPAQUE:
                (op,) = region.operations
                node = asg.nodes[op.node]
                node = node._replace(params=_fuse_bodies(node.params, limits))
                new.update(zip(self._made(op.node), builder.add(node, [new[i] for i in node.inputs]), strict=True))
            elif region.kind == ALIAS:
                self._alias(region.operations[0].value, builder, new)
            elif found := self._fused(region):
                node, reads, makes = found
                new.update(zip(makes, builder.add(node, [new[i] for i in reads]), strict=True))
        return prune(builder.build([new[i] for i in asg.outputs], **_labels(asg)))

    def _alias(self, value: int, builder: GraphBuilder, new: dict[int, int]) -> None:
        chain = []
        while value not in new:
            chain.append(value)
            value = self.asg.nodes[self.asg.producers[value]].inputs[0]
        for value in reversed(chain):
            node = self.asg.nodes[self.asg.producers[value]]
            new[value] = builder.add(node, [new[node.inputs[0]]])[0]

    def _fused(self, region: Region) -> tuple[Node, list[int], list[int]] | None:
        """The node of a region, the values that it reads and those that it makes; None if it makes nothing."""
        if region.kind != GROUP:
            return self._wrap(region)
        parts = [found for part in region.parts if (found := self._fused(part))]
        if len(parts) < 2:
            return parts[0] if parts else None
        reads = list(dict.fromkeys(i for _, part_reads, _ in parts for i in part_reads))
        types = self.asg.value_types
        builder = GraphBuilder([types[i] for i in reads])
        local = {i: k for k, i in enumerate(reads)}
        outputs: list[int] = []
        makes: list[int] = []
        for node, part_reads, part_makes in parts:
            node = node._replace(scope="")
            outputs += builder.add(node, [local[i] for i in part_reads])
            makes += part_makes
        name = f"{len(parts)} x {_title(dict.fromkeys(node.params['name'] for node, _, _ in parts), 2)}"
        inner = builder.build(outputs, name=name, input_names=[_label(self.asg, i) for i in reads])
        sources = [node.source for node, _, _ in parts]
        scope = _common_scope([node.scope for node, _, _ in parts])
        params = Params(asg=inner, kind=GROUP, name=name)
        return Node(fused_p, (), params, inner.out_types, scope, sources[0]), reads, makes

    def _body(self, region: Region, makes: Sequence[int]) -> list[int]:
        """The nodes of a region in order, with those that it repeats."""
        nodes, producers, inlined = self.asg.nodes, self.asg.producers, self.partitioner.inlined
        own = {op.node for op in region.operations}
        body: set[int] = set()
        stack = [producers[i] for i in makes]
        while stack:
            index = stack.pop()
            if index not in body:
                body.add(index)
                for i in nodes[index].inputs:
                    maker = producers[i]
                    if maker >= 0 and (maker in own or inlined[maker] or maker in self.recomputed):
                        stack.append(maker)
        return sorted(body)

    def _wrap(self, region: Region) -> tuple[Node, list[int], list[int]] | None:
        asg, partitioner = self.asg, self.partitioner
        makes = [i for op in region.operations for i in self._made(op.node) if i in self.stored]
        if not makes:
            return None
        body = self._body(region, makes)
        nodes = [asg.nodes[index] for index in body]
        inside = {i for index in body for i in self._made(index)}
        outside = dict.fromkeys([i for node in nodes for i in node.inputs if i not in inside])
        reads = [i for i in outside if not partitioner.is_literal_value(i)]
        literals = [i for i in outside if partitioner.is_literal_value(i)]
        types, n = asg.value_types, len(asg.inputs)
        builder = GraphBuilder(
            [types[i] for i in reads], [asg.constants[i - n] for i in literals], [types[i] for i in literals]
        )
        local = {i: k for k, i in enumerate((*reads, *literals))}
        scope = _common_scope([node.scope for node in nodes])
        for index, node in zip(body, nodes, strict=True):
            if scope:
                node = node._replace(scope=node.scope[len(scope) :].lstrip("/"))
            made = builder.add(node, [local[i] for i in node.inputs])
            local.update(zip(self._made(index), made, strict=True))
        name = _title(
            node.primitive.name for index, node in zip(body, nodes, strict=True) if not partitioner.inlined[index]
        ) or _title(node.primitive.name for node in nodes)
        inner = builder.build([local[i] for i in makes], name=name, input_names=[_label(asg, i) for i in reads])
        params = Params(asg=inner, kind=region.kind, name=name)
        source = next((node.source for node in reversed(nodes) if node.source is not None), None)
        return Node(fused_p, (), params, inner.out_types, scope, source), reads, makes

    def _made(self, index: int) -> range:
        first = self.asg.first_outputs[index]
        return range(first, first + len(self.asg.nodes[index].out_types))


def _label(asg: Asg, value: int) -> str:
    """What an operand of a region is called: the argument's name, or the operation that made it."""
    if value < len(asg.inputs):
        return asg.input_names[value]
    index = asg.producers[value]
    return "constant" if index < 0 else asg.nodes[index].primitive.name


def _title(words: Iterable[str], most: int = 4) -> str:
    """The first few distinct operations, as a name."""
    distinct = list(dict.fromkeys(words))
    return " ".join(distinct[:most]) + (" ..." if len(distinct) > most else "")


def _common_scope(scopes: Sequence[str]) -> str:
    """The innermost scope that holds all of these."""
    if len(set(scopes)) == 1:  # as a rule
        return scopes[0]
    paths = [scope.split("/") for scope in scopes]
    common = takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))
    return "/".join(names[0] for names in common)


def _fuse_bodies(params: Params, limits: FusionLimits) -> Params:
    """Parameters with the graphs among them (bodies, branches) partitioned too."""

    def one(value: Any) -> Any:
        if isinstance(value, Asg):
            return fuse_graph(value, limits)
        if isinstance(value, tuple) and value and all(isinstance(v, Asg) for v in value):
            return tuple(fuse_graph(v, limits) for v in value)
        return value

    return Params({k: one(v) for k, v in params.items()}) if inner_graphs(params) else params


# ---------------------------------------------------------------------------------------------- and back
def unfuse(asg: Asg) -> Asg:
    """The graph with the contents of its regions in their place; what `fuse_graph` did is undone."""
    return _labelled(_unfuse(asg), asg)


@lru_cache(maxsize=256)
def _unfuse(asg: Asg) -> Asg:
    if not any(node.primitive is fused_p for node in asg.nodes):
        return asg
    bodies = [unfuse(node.params["asg"]) if node.primitive is fused_p else None for node in asg.nodes]
    constants, types = list(asg.constants), list(asg.constant_types)
    place = {(t, c.tobytes()): k for k, (c, t) in enumerate(zip(constants, types, strict=True)) if not t.shape}
    for held in filter(None, bodies):
        for c, t in zip(held.constants, held.constant_types, strict=True):
            if (t, c.tobytes()) not in place:  # regions hold copies of the same scalars
                place[t, c.tobytes()] = len(constants)
                constants.append(c)
                types.append(t)
    n_in = len(asg.inputs)
    builder = GraphBuilder(asg.inputs, constants, types)
    new = list(range(n_in + len(asg.constants)))
    for node, body in zip(asg.nodes, bodies, strict=True):
        if body is None:
            new += builder.add(node, [new[i] for i in node.inputs])
            continue
        env = [new[i] for i in node.inputs]
        env += [n_in + place[t, c.tobytes()] for c, t in zip(body.constants, body.constant_types, strict=True)]
        for inner in body.nodes:
            scope = "/".join(filter(None, (node.scope, inner.scope)))
            env += builder.add(inner._replace(scope=scope), [env[i] for i in inner.inputs])
        new += [env[i] for i in body.outputs]
    return builder.build([new[i] for i in asg.outputs])


def region_count(asg: Asg) -> int:
    """How many kernels a fused graph is: one a region and one for each other operation that does something; loops and
    branches count what they hold once."""
    count = 0
    for node in asg.nodes:
        if node.primitive is fused_p:
            count += 1
        elif inner := inner_graphs(node.params):
            count += max(1, sum(map(region_count, inner)))
        elif node.primitive.name not in ALIASES:
            count += 1
    return count
