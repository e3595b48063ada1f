"""Puts nodes `attention` and `attention_gradient` where a graph has their expressions."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

from asgfn.graph.asg import Asg, Node, Params
from asgfn.graph.edit import GraphBuilder
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import primitive
from asgfn.records import record
from backends.kernels.attention_cut import Cut, Found
from backends.kernels.attention_form import Form, Gradient, attention_gradient_p, attention_p
from backends.kernels.attention_frame import Use
from backends.kernels.attention_terms import reduces_nothing
from backends.kernels.schedules.attention_tiles import backward_tiling, forward_tiling
from backends.kernels.target import Target


class Addition(NamedTuple):
    """A node that is added, its operands, and its results. Ids below 0 are those of additions."""

    node: Node
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    after: int  # where in the graph it belongs: behind this node


@record
class Match:
    """What takes the place of one attention.

    Attributes:
        additions: new nodes.
        instead: new values for old ones.
        pattern: numbers of the nodes that nobody may need any more.
        otherwise: gives what to try if somebody does; None if there is nothing.
    """

    additions: tuple[Addition, ...]
    instead: Mapping[int, int]
    pattern: tuple[int, ...]
    otherwise: Callable[[], Match | None] = lambda: None


_ids = count(1)


def _fresh(n: int) -> tuple[int, ...]:
    return tuple(-next(_ids) for _ in range(n))


# ---------------------------------------------------------------------------------------------- new nodes
def replacement(found: Found, target: Target) -> Match | None:
    """The nodes for an attention; None if there are no kernels for it."""
    asg, softmax = found.asg, found.softmax
    dots = [asg.producers[found.product], asg.producers[softmax.exponentials]]
    if found.gradient is None:
        alone = _attention(found, target, statistics=False)
        if alone is None:
            return None
        result = _followed(asg, _result(asg, found.result))

        def otherwise() -> Match | None:
            more = _attention(found, target, statistics=True)
            if more is None:
                return None
            unpacked, statistics = _statistics(found, more)
            return Match((more, *unpacked), {result: more.outputs[0], **statistics}, tuple(dots))

        return Match((alone,), {result: alone.outputs[0]}, tuple(dots), otherwise)
    dots.append(asg.producers[found.gradient.weight_gradient])
    forward = _attention(found, target, statistics=True)
    if forward is None:
        return None
    backward = _attention_gradient(found, forward, target)
    if backward is None:
        return None
    unpacked, statistics = _statistics(found, forward)
    instead = {_followed(asg, _result(asg, found.result)): forward.outputs[0], **statistics}
    uses = [u for u in (found.gradient.query, found.gradient.key, found.gradient.value) if u is not None]
    instead |= {_followed(asg, _result(asg, u)): new for u, new in zip(uses, backward.outputs, strict=True)}
    return Match((forward, *unpacked, backward), instead, tuple(dots))


def _result(asg: Asg, use: Use) -> int:
    return asg.first_outputs[use.node]


def _followed(asg: Asg, value: int) -> int:
    """What views and conversions that alone read a value make of it."""
    while value not in asg.outputs and len(asg.users[value]) == 1:
        (user,) = asg.users[value]
        node = asg.nodes[user]
        if not _is_output_view(node, asg.value_types[value]):
            break
        if node.out_types[0].dtype.kind not in "fV":
            break
        value = asg.first_outputs[user]
    return value


def _is_output_view(node: Node, t: ArrayType) -> bool:
    """Whether each element of a result is one of the operand's, and none comes twice."""
    if node.primitive.name == "broadcast_in_dim":
        return node.out_types[0].size == t.size
    if node.primitive.name == "reduce_sum":
        return reduces_nothing(node, t.shape)
    return node.primitive.name in ("reshape", "transpose", "squeeze", "expand_dims", "convert_element_type")


def _sizes(found: Found) -> tuple[int, int, int, int]:
    """Queries that share keys, keys, and the features of queries and of values."""
    queries = 1
    for a in found.rows:
        queries *= a.size
    return queries, found.frame.terms.column_axis.size, found.frame.size, found.result.size


def _attention(found: Found, target: Target, statistics: bool) -> Addition | None:
    if not target.simd and forward_tiling(*_sizes(found), target) is None:  # processors have tiles of any size
        return None
    asg, softmax = found.asg, found.softmax
    dot = _result(asg, found.result)
    result = _followed(asg, dot)
    cut = Cut(found, [dot], stops=())
    ends = [result, softmax.largest, softmax.total] if statistics else [result]
    cut.include(ends)
    builder, new = cut.builder([])
    outputs = [new[result]]
    if statistics:
        outputs.append(_packed(builder, new[softmax.largest], new[softmax.total], asg.value_types[softmax.total]))
    inner = builder.build(outputs, name="attention")
    form = _form(found, inner, new, result=(new[dot], new[result]))
    if len(cut.reads) + len(outputs) > target.buffers:
        return None
    node = Node(
        attention_p,
        (),
        Params(form=form),
        inner.out_types,
        asg.nodes[found.result.node].scope,
        asg.nodes[found.result.node].source,
    )
    return Addition(node, cut.reads, _fresh(len(outputs)), found.result.node)


def _attention_gradient(found: Found, forward: Addition, target: Target) -> Addition | None:
    if not target.simd and backward_tiling(*_sizes(found), target) is None:
        return None
    asg, softmax, gradient = found.asg, found.softmax, found.gradient
    assert gradient is not None
    uses = [gradient.query, gradient.key, gradient.value]
    dots = [None if u is None else _result(asg, u) for u in uses]
    ends = [None if d is None else _followed(asg, d) for d in dots]
    present = [d for d in dots if d is not None]
    dot = _result(asg, found.result)  # nobody reads it there, but it says where the result's elements are
    cut = Cut(found, [*present, dot, gradient.weight_gradient], stops=(softmax.largest, softmax.total))
    cut.include([*(e for e in ends if e is not None), dot])
    builder, new = cut.builder(list(forward.node.out_types))
    result, statistics = len(cut.reads), len(cut.reads) + 1
    for k, number in enumerate((softmax.largest, softmax.total)):
        new[number] = _part(_adder(builder), statistics, k, forward.node.out_types[1], asg.value_types[number])
    cut.finish(builder, new)
    inner = builder.build([new[e] for e in ends if e is not None], name="attention gradient")
    product = asg.nodes[asg.producers[gradient.weight_gradient]]
    terms = found.frame.terms
    (at_product,) = terms.places[gradient.weight_gradient]
    operands = terms.operands(product, at_product)
    assert operands is not None
    sides = [terms.operand(*operand) for operand in operands]
    query, key, value = (None if d is None or e is None else (new[d], new[e]) for d, e in zip(dots, ends, strict=True))
    form = _form(
        found, inner, new, result=(new[dot], new[dot]),
        gradient=Gradient(
            new[gradient.weight_gradient], sides.index(gradient.values), tuple(new[v] for v in gradient.row_sums),
            query, key, value, _views(asg, dot), result, statistics,
        ),
    )  # fmt: skip
    # with the result, statistics, the numbers of rows that the kernels share, and one gradient
    if len(cut.reads) + 4 > target.buffers:
        return None
    last = max(u.node for u in uses if u is not None)
    node = Node(
        attention_gradient_p, (), Params(form=form), inner.out_types, asg.nodes[last].scope, asg.nodes[last].source
    )
    return Addition(node, (*cut.reads, *forward.outputs), _fresh(len(inner.outputs)), last)


def _views(asg: Asg, value: int) -> Asg:
    """What a product's result becomes by views, as a graph."""
    builder = GraphBuilder([asg.value_types[value]])
    end, at = _followed(asg, value), 0
    while value != end:
        (user,) = asg.users[value]
        (at,) = builder.add(asg.nodes[user]._replace(scope="", source=None), [at])
        value = asg.first_outputs[user]
    return builder.build([at], name="views")


def _form(
    found: Found, inner: Asg, new: Mapping[int, int], result: tuple[int, int], gradient: Gradient | None = None
) -> Form:
    s = found.softmax
    return Form(
        asg=inner, axis=s.axis, product=new[found.product], scores=new[s.scores], exponentials=new[s.exponentials],
        total=new[s.total], guarded=found.guarded, band=found.band, row=found.row, result=result, gradient=gradient,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- maximum and sum of rows
Adder = Callable[[str, Sequence[int], ArrayType, dict], int]
_F32 = np.dtype(np.float32)


def _adder(builder: GraphBuilder) -> Adder:
    return lambda name, inputs, t, params: builder.add(Node(primitive(name), (), Params(params), (t,)), inputs)[0]


def _packed(builder: GraphBuilder, largest: int, total: int, t: ArrayType) -> int:
    """float32 [2, ...]: both statistics."""
    add = _adder(builder)
    whole = ArrayType((1, *t.shape), _F32)
    parts = []
    for value in (largest, total):
        if t.dtype != _F32:
            value = add(
                "convert_element_type", [value], ArrayType(t.shape, _F32), {"new_dtype": _F32, "weak_type": False}
            )
        parts.append(add("reshape", [value], whole, {"new_sizes": whole.shape}))
    return add("concatenate", parts, ArrayType((2, *t.shape), _F32), {"dimension": 0})


def _part(add: Adder, packed: int, k: int, whole: ArrayType, t: ArrayType) -> int:
    """One of the statistics, as it is in the graph."""
    start = (k, *(0 for _ in t.shape))
    stop = (k + 1, *t.shape)
    part = ArrayType((1, *t.shape), _F32)
    value = add("slice", [packed], part, {"start_indices": start, "limit_indices": stop, "strides": None})
    value = add("reshape", [value], ArrayType(t.shape, _F32), {"new_sizes": t.shape})
    if t.dtype != _F32:
        value = add("convert_element_type", [value], t, {"new_dtype": t.dtype, "weak_type": False})
    return value


def _statistics(found: Found, forward: Addition) -> tuple[list[Addition], dict[int, int]]:
    """Nodes that take the statistics apart again, for whoever needs them."""
    additions: list[Addition] = []

    def add(name: str, inputs: Sequence[int], t: ArrayType, params: dict) -> int:
        outputs = _fresh(1)
        additions.append(
            Addition(Node(primitive(name), (), Params(params), (t,)), tuple(inputs), outputs, forward.after)
        )
        return outputs[0]

    types = found.asg.value_types
    values = (found.softmax.largest, found.softmax.total)
    instead = {v: _part(add, forward.outputs[1], k, forward.node.out_types[1], types[v]) for k, v in enumerate(values)}
    return additions, instead


# ---------------------------------------------------------------------------------------------- putting in
def replaced(asg: Asg, matches: Sequence[Match], sides: Sequence[int] = ()) -> tuple[Asg, list[int], set[int]]:
    """The graph with all matches put in, and for each node its side; or which of the matches cannot be put in, because
    somebody needs what they compute inside."""
    instead = {old: new for m in matches for old, new in m.instead.items()}
    sides = sides or [0] * len(asg.nodes)
    items: list[_Item] = []
    for number, (node, first) in enumerate(zip(asg.nodes, asg.first_outputs, strict=True)):
        inputs = tuple([instead.get(i, i) for i in node.inputs])
        items.append(_Item(number, node, inputs, tuple(range(first, first + len(node.out_types)))))
    owner: dict[int, int] = {}
    for k, m in enumerate(matches):
        for a in m.additions:
            owner[len(items)] = k
            items.append(_Item(a.after, a.node, tuple(instead.get(i, i) for i in a.inputs), a.outputs))
    order = _ordered(items)
    done = set(order)
    failed = {k for item, k in owner.items() if item not in done}
    if failed:
        return asg, [], failed
    outputs = [instead.get(i, i) for i in asg.outputs]
    live = set(outputs)
    needed: set[int] = set()
    for k in reversed(order):
        item = items[k]
        if not live.isdisjoint(item.outputs) or item.node.primitive.is_effectful(item.node.params):
            needed.add(k)
            live.update(item.inputs)
    failed = {k for k, m in enumerate(matches) if not needed.isdisjoint(m.pattern)}
    if failed:
        return asg, [], failed
    builder = GraphBuilder(asg.inputs, asg.constants, asg.constant_types)
    new = {i: i for i in range(len(asg.inputs) + len(asg.constants))}
    new_sides = []
    for k in order:
        if k in needed:
            item = items[k]
            new.update(zip(item.outputs, builder.add(item.node, [new[i] for i in item.inputs]), strict=True))
            new_sides.append(sides[item.place])
    labels = {k: getattr(asg, k) for k in ("name", "input_names", "in_tree", "out_tree")}
    return builder.build([new[i] for i in outputs], **labels), new_sides, set()


class _Item(NamedTuple):
    """A node with the ids of its operands and results, and the number of the node whose place it has."""

    place: int
    node: Node
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def _ordered(items: Sequence[_Item]) -> list[int]:
    """An order in which each comes after what it reads, close to the order in which they are; without those in circles."""
    maker = {value: k for k, item in enumerate(items) for value in item.outputs}
    readers: list[list[int]] = [[] for _ in items]
    missing = [0] * len(items)
    for k, item in enumerate(items):
        for m in {maker[i] for i in item.inputs if i in maker}:
            readers[m].append(k)
            missing[k] += 1
    ready = [(item.place, k) for k, item in enumerate(items) if not missing[k]]
    heapq.heapify(ready)
    order = []
    while ready:
        _, k = heapq.heappop(ready)
        order.append(k)
        for r in readers[k]:
            missing[r] -= 1
            if not missing[r]:
                heapq.heappush(ready, (items[r].place, r))
    return order
