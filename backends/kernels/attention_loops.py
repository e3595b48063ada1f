"""Attention in a loop that is differentiated: its weights must not be kept from each turn of the loop for the loop backwards.

Differentiation makes two loops of one: the second reads what the first one stored in the same turn. Here the bodies of
both become one graph for a while. In it attention and its gradient are found as in any other; then it is taken apart
again, and what passes from one to the other is what is needed now: queries, keys, values, the result and statistics
of rows, but no array with a number for each pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from asgfn.graph.asg import Asg, Node, Params
from asgfn.graph.edit import GraphBuilder, prune
from asgfn.graph.types import ArrayType
from asgfn.transforms.region_roles import ELEMENTWISE, VIEW, role_of

FIRST, SECOND = 0, 1
# finds and replaces attention in a graph, and says of which loop each node of the result is; None: there is none
Matcher = Callable[[Asg, Sequence[int]], "tuple[Asg, list[int]] | None"]
_LONGEST_CHAIN = 64


def join_loops(asg: Asg, match: Matcher) -> Asg:
    """The graph with attention replaced in pairs of loops."""
    tried: set[tuple] = set()
    while True:
        pair = next((p for p in _pairs(asg) if (asg.nodes[p.first], asg.nodes[p.second]) not in tried), None)
        if pair is None:
            return asg
        tried.add((asg.nodes[pair.first], asg.nodes[pair.second]))
        asg = _Joined(asg, pair).replaced(match) or asg


class _Pair(NamedTuple):
    """Numbers of two loops, the second of which goes through what the first one stored."""

    first: int
    second: int


def _pairs(asg: Asg) -> list[_Pair]:
    found = []
    for number, node in enumerate(asg.nodes):
        if node.primitive.name != "scan" or node.params["asg"].has_effects:
            continue
        carries = node.params["num_carry"]
        start = asg.first_outputs[number]
        stored = range(start + carries, start + len(node.out_types))
        readers = {u for v in stored for u in asg.users[v]}
        seconds = [
            u for u in sorted(readers)
            if asg.nodes[u].primitive.name == "scan" and not asg.nodes[u].params["asg"].has_effects
            and asg.nodes[u].params["length"] == node.params["length"]
            and set(stored) & set(asg.nodes[u].inputs[_before(asg.nodes[u]) :])
        ]  # fmt: skip
        if len(seconds) == 1:
            found.append(_Pair(number, seconds[0]))
    return found


def _before(scan: Node) -> int:
    """How many operands of a loop are no arrays that it goes through."""
    return scan.params["num_consts"] + scan.params["num_carry"]


class _Joined:
    """The bodies of two loops as one graph."""

    def __init__(self, asg: Asg, pair: _Pair):
        self.asg, self.pair = asg, pair
        self.first, self.second = asg.nodes[pair.first], asg.nodes[pair.second]
        one: Asg = self.first.params["asg"]
        two: Asg = self.second.params["asg"]
        self.one, self.two = one, two
        start = asg.first_outputs[pair.first]
        self.carries = self.first.params["num_carry"]
        stored = {start + k: k for k in range(self.carries, len(self.first.out_types))}
        before = _before(self.second)
        # inputs of the second body: what the first one stored, what is made of positions alone, and the rest
        self.bound = {k: stored[v] for k, v in enumerate(self.second.inputs) if k >= before and v in stored}
        self.sunk = {
            k: chain for k, v in enumerate(self.second.inputs[: self.second.params["num_consts"]])
            if asg.value_types[v].ndim >= 2 and (chain := _free_chain(asg, v))
        }  # fmt: skip
        self.own = [k for k in range(len(two.inputs)) if k not in self.bound and k not in self.sunk]
        # what others need of what the first one stored
        needed = {v for v in stored if v in asg.outputs}
        needed |= {v for v in stored if any(u != pair.second for u in asg.users[v])}
        needed |= {v for v in stored if v in self.second.inputs[:before]}
        self.kept = [k for v, k in stored.items() if v in needed]
        self.sides: list[int] = []
        self.graph = self._join()

    def _join(self) -> Asg:
        one, two = self.one, self.two
        outer = [
            (self.asg.constants[i - len(self.asg.inputs)], self.asg.value_types[i]) for i in self._sunk_constants()
        ]
        builder = GraphBuilder(
            [*one.inputs, *(two.inputs[k] for k in self.own)],
            [*one.constants, *two.constants, *(c for c, _ in outer)],
            [*one.constant_types, *two.constant_types, *(t for _, t in outer)],
        )
        n = len(builder.inputs)
        a = [*range(len(one.inputs)), *range(n, n + len(one.constants))]
        for node in one.nodes:
            a += builder.add(node, [a[i] for i in node.inputs])
            self.sides.append(FIRST)
        b: list[int] = [-1] * len(two.inputs)
        for place, k in enumerate(self.own):
            b[k] = len(one.inputs) + place
        for k, output in self.bound.items():
            b[k] = a[one.outputs[output]]
        start = n + len(one.constants) + len(two.constants)
        sunk = {i: start + k for k, i in enumerate(self._sunk_constants())}
        for k, chain in self.sunk.items():
            for number in chain:
                first = self.asg.first_outputs[number]
                if first not in sunk:
                    node = self.asg.nodes[number]
                    (sunk[first],) = builder.add(node, [sunk[i] for i in node.inputs])
                    self.sides.append(SECOND)
            b[k] = sunk[self.second.inputs[k]]
        b += range(n + len(one.constants), n + len(one.constants) + len(two.constants))
        for node in two.nodes:
            b += builder.add(node, [b[i] for i in node.inputs])
            self.sides.append(SECOND)
        mine = [a[one.outputs[k]] for k in (*range(self.carries), *self.kept)]
        self.split = len(mine)
        return builder.build([*mine, *(b[i] for i in two.outputs)])

    def _sunk_constants(self) -> list[int]:
        asg = self.asg
        read = dict.fromkeys(i for chain in self.sunk.values() for m in chain for i in asg.nodes[m].inputs)
        return [i for i in read if asg.producers[i] < 0]

    # ------------------------------------------------------------------ and apart again
    def replaced(self, match: Matcher) -> Asg | None:
        found = match(self.graph, self.sides)
        if found is None:
            return None
        graph, sides = found
        n_in, n = len(graph.inputs), len(graph.inputs) + len(graph.constants)
        of_first = len(self.one.inputs)
        made = [FIRST] * of_first + [SECOND] * (n_in - of_first) + [-1] * (n - n_in)
        for node, side in zip(graph.nodes, sides, strict=True):
            made += [side] * len(node.out_types)
        read = [i for node, side in zip(graph.nodes, sides, strict=True) if side == SECOND for i in node.inputs]
        crossing = list(dict.fromkeys(i for i in (*read, *graph.outputs[self.split :]) if made[i] == FIRST))
        if any(
            made[i] == SECOND
            for node, side in zip(graph.nodes, sides, strict=True)
            if side == FIRST
            for i in node.inputs
        ):
            return None
        first_consts = self.first.params["num_consts"]
        consts = [i for i in crossing if i < first_consts]
        again = [i for i in crossing if first_consts + self.carries <= i < of_first]
        stored = [i for i in crossing if i not in consts and i not in again]
        one = self._body(
            graph, sides, FIRST, list(range(of_first)), [*graph.outputs[: self.split], *stored], self.one.name
        )
        before, count = _before(self.second), self.second.params["num_consts"]
        own = dict(zip(self.own, range(of_first, n_in), strict=True))
        kinds = [
            [k for k in self.own if k in span]
            for span in (range(count), range(count, before), range(before, len(self.two.inputs)))
        ]
        reads = [
            *(own[k] for k in kinds[0]), *consts, *(own[k] for k in kinds[1]),
            *(own[k] for k in kinds[2]), *again, *stored,
        ]  # fmt: skip
        two = self._body(graph, sides, SECOND, reads, graph.outputs[self.split :], self.two.name)
        return self._outer(one, two, kinds, consts, again, len(stored))

    def _body(
        self, graph: Asg, sides: Sequence[int], side: int, inputs: list[int], outputs: Sequence[int], name: str
    ) -> Asg:
        types = graph.value_types
        builder = GraphBuilder([types[i] for i in inputs], graph.constants, graph.constant_types)
        new = {i: k for k, i in enumerate(inputs)}
        new |= {len(graph.inputs) + k: len(inputs) + k for k in range(len(graph.constants))}
        for node, first, own in zip(graph.nodes, graph.first_outputs, sides, strict=True):
            if own == side:
                for k, i in enumerate(builder.add(node, [new[i] for i in node.inputs])):
                    new[first + k] = i
        return prune(builder.build([new[i] for i in outputs], name=name))

    def _outer(
        self, one: Asg, two: Asg, kinds: list[list[int]], consts: list[int], again: list[int], stored: int
    ) -> Asg:
        asg, pair = self.asg, self.pair
        length = self.first.params["length"]
        builder = GraphBuilder(asg.inputs, asg.constants, asg.constant_types)
        new: dict[int, int] = {i: i for i in range(len(asg.inputs) + len(asg.constants))}
        extra: list[int] = []
        for number, (node, first) in enumerate(zip(asg.nodes, asg.first_outputs, strict=True)):
            if number == pair.first:
                outputs = builder.add(
                    _scan(node, one, self.first.params["num_consts"], length), [new[i] for i in node.inputs]
                )
                for place, k in enumerate((*range(self.carries), *self.kept)):
                    new[first + k] = outputs[place]
                extra = list(outputs[len(outputs) - stored :]) if stored else []
                continue
            if number == pair.second:
                read = [node.inputs[k] for k in kinds[0]] + [self.first.inputs[i] for i in consts]
                read += [node.inputs[k] for k in kinds[1] + kinds[2]] + [self.first.inputs[i] for i in again]
                inputs = [new[i] for i in read] + extra
                node = _scan(node, two, len(kinds[0]) + len(consts), length)
                outputs = builder.add(node, inputs)
            else:
                outputs = builder.add(node, [new[i] for i in node.inputs])
            new.update(zip(range(first, first + len(outputs)), outputs, strict=True))
        labels = {k: getattr(asg, k) for k in ("name", "input_names", "in_tree", "out_tree")}
        return prune(builder.build([new[i] for i in asg.outputs], **labels))


def _scan(node: Node, body: Asg, consts: int, length: int) -> Node:
    carries = node.params["num_carry"]
    types: list[ArrayType] = [
        t if k < carries else t.update(shape=(length, *t.shape)) for k, t in enumerate(body.out_types)
    ]
    return node._replace(params=Params({**node.params, "asg": body, "num_consts": consts}), out_types=tuple(types))


def _free_chain(asg: Asg, value: int) -> list[int]:
    """The nodes that make a value of positions and constants alone, in order; none if it is made of anything else."""
    found: set[int] = set()
    stack = [value]
    n = len(asg.inputs)
    while stack:
        i = stack.pop()
        maker = asg.producers[i]
        if maker < 0:
            if i < n or np.ndim(asg.constants[i - n]):
                return []
            continue
        node = asg.nodes[maker]
        if maker in found:
            continue
        if (
            role_of(node, [asg.value_types[k] for k in node.inputs]) not in (ELEMENTWISE, VIEW)
            or len(found) > _LONGEST_CHAIN
        ):
            return []
        found.add(maker)
        stack += node.inputs
    return sorted(found)
