"""What was found of an attention in a graph, and the part of the graph that it is, cut out.

The part goes from the results back to what queries, keys, values and masks are views of. Masks that are made of positions
alone are cut out as well; others are operands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from asgfn.graph.asg import Asg, Node
from asgfn.graph.edit import GraphBuilder
from asgfn.graph.types import ArrayType
from asgfn.transforms.region_roles import ELEMENTWISE, VIEW, role_of
from backends.kernels.attention_frame import Frame, Use
from backends.kernels.attention_terms import reduces_nothing
from backends.kernels.index import Axis


class Softmax(NamedTuple):
    """The values that a softmax is made of, and its axis."""

    scores: int
    subtracted: int
    exponentials: int
    largest: int
    total: int
    axis: int


class FoundGradient(NamedTuple):
    """The values of a gradient: the product that is the weights' gradient, the term of `values` in it, sums over rows; and
    the products that are gradients of queries, keys and values, as far as they are computed."""

    weight_gradient: int
    values: int
    row_sums: tuple[int, ...]
    query: Use | None
    key: Use | None
    value: Use | None


class Found(NamedTuple):
    """An attention in a graph."""

    asg: Asg
    softmax: Softmax
    product: int
    frame: Frame
    result: Use
    rows: frozenset[Axis]
    batch: frozenset[Axis]
    guarded: bool
    band: tuple[int | None, int | None]
    row: int
    gradient: FoundGradient | None


class Cut:
    """The part of a graph that a node is.

    Attributes:
        reads: the values that it reads.
    """

    def __init__(self, found: Found, products: Sequence[int], stops: Sequence[int]):
        self.asg, self.types = found.asg, found.asg.value_types
        self.found, self.frame = found, found.frame
        self.stops = frozenset(stops)
        s = found.softmax
        own = [found.product, s.exponentials, *products, *(v for v in (s.largest, s.total) if v not in self.stops)]
        if found.gradient is not None:
            own += found.gradient.row_sums
        self.own = frozenset(self.asg.producers[v] for v in own)
        rows = max((a.size for a in found.rows), default=1)
        self.large = rows * found.frame.terms.column_axis.size
        self.derived = self._derived([s.largest, s.total, *(found.gradient.row_sums if found.gradient else ())])
        self.inside: set[int] = set()
        self._free: dict[int, bool] = {}
        self.reads: tuple[int, ...] = ()

    def _derived(self, starts: Iterable[int]) -> set[int]:
        """What is made of statistics of rows, element by element."""
        found: set[int] = set()
        stack = list(starts)
        while stack:
            value = stack.pop()
            for user in self.asg.users[value]:
                node = self.asg.nodes[user]
                result = self.asg.first_outputs[user]
                role = role_of(node, [self.types[i] for i in node.inputs])
                if result not in found and role in (ELEMENTWISE, VIEW):
                    found.add(result)
                    stack.append(result)
        return found

    def include(self, ends: Sequence[int]) -> None:
        """Everything from these values back."""
        asg = self.asg
        # of operands only views are taken; of masks what is computed for each pair
        stack = [(end, "result") for end in ends]
        seen = set(stack)
        touched: set[int] = set()
        while stack:
            value, mode = stack.pop()
            maker = asg.producers[value]
            if maker < 0 or value in self.stops:
                continue
            node = asg.nodes[maker]
            if not self._is_inside(maker, node, value, mode):
                continue
            touched.add(maker)
            for i in node.inputs:
                following = mode
                if maker in self.own:
                    large = i in self.frame.places or i == self.found.softmax.scores
                    following = "score" if large or node.primitive.name != "dot_general" else "operand"
                if (i, following) not in seen:
                    seen.add((i, following))
                    stack.append((i, following))
        self.inside = touched
        made = {asg.first_outputs[m] for m in touched}
        reads = dict.fromkeys(
            i for m in sorted(touched) for i in asg.nodes[m].inputs if i not in made and i not in self.stops
        )
        self.literals = [i for i in reads if self._is_scalar_constant(i)]
        self.reads = tuple(i for i in reads if not self._is_scalar_constant(i))

    def _is_inside(self, maker: int, node: Node, value: int, mode: str) -> bool:
        if maker in self.own or mode == "result":
            return True
        if len(node.out_types) != 1:
            return False
        in_types = [self.types[i] for i in node.inputs]
        role = role_of(node, in_types)
        if node.primitive.name == "reduce_sum" and reduces_nothing(node, in_types[0].shape):
            return True
        if role == VIEW:
            return mode == "score" or node.primitive.name not in ("pad", "concatenate", "iota")
        if mode != "score" or role != ELEMENTWISE:
            return False
        large = node.out_types[0].size >= self.large
        return large or value in self.frame.places or value in self.derived or self._is_free(value)

    def _is_free(self, value: int) -> bool:
        """Whether a value is made of positions and constants alone, by a few operations."""
        found = self._free.get(value)
        if found is None:
            maker = self.asg.producers[value]
            node = self.asg.nodes[maker] if maker >= 0 else None
            if node is None:
                found = self._is_scalar_constant(value)
            else:
                role = role_of(node, [self.types[i] for i in node.inputs])
                self._free[value] = False  # while it is looked at
                few = len(self._free) < 64
                found = role in (ELEMENTWISE, VIEW) and few and all(map(self._is_free, node.inputs))
            self._free[value] = found
        return found

    def _is_scalar_constant(self, value: int) -> bool:
        n = len(self.asg.inputs)
        return n <= value < n + len(self.asg.constants) and not self.types[value].shape

    def builder(self, more: Sequence[ArrayType]) -> tuple[GraphBuilder, dict[int, int]]:
        """A graph with these reads, and more inputs, and what has been put into it."""
        asg = self.asg
        n, first = len(asg.inputs), len(self.reads) + len(more)
        builder = GraphBuilder(
            [*(self.types[i] for i in self.reads), *more],
            [asg.constants[i - n] for i in self.literals],
            [self.types[i] for i in self.literals],
        )
        new = {i: k for k, i in enumerate(self.reads)} | {i: first + k for k, i in enumerate(self.literals)}
        if not self.stops:
            self.finish(builder, new)
        return builder, new

    def finish(self, builder: GraphBuilder, new: dict[int, int]) -> None:
        """Adds the nodes."""
        for maker in sorted(self.inside):
            node = self.asg.nodes[maker]
            (new[self.asg.first_outputs[maker]],) = builder.add(
                node._replace(scope="", source=None), [new[i] for i in node.inputs]
            )
