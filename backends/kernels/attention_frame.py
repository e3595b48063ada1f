"""The axes of attention: which of them count heads and batch, which queries, which keys; and where operands are in them.

All values as large as the scores are placed by the same axes, the frame: those of the scores, split where a reshape joins
what belongs to queries with what belongs to heads. An element of the scores belongs to a `column` (a key), to `rows`
(queries: what neither keys nor values depend on, the heads that share them included) and to a `batch` (the rest).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from asgfn.graph.asg import Asg, Node
from asgfn.transforms.region_roles import ELEMENTWISE, role_of
from backends.kernels import index as ix
from backends.kernels.attention_terms import (
    RESHAPES,
    SAME,
    Coordinates,
    Terms,
    reduces_nothing,
    split_points,
)
from backends.kernels.index import Axis, Digit, Index


class Use(NamedTuple):
    """A contraction that reads a value as large as the scores.

    Attributes:
        node: its number.
        value: what it reads.
        contracted: the axes of the frame that it sums over.
        other: its other operand, and the coordinates of that: its only free axis is `summed` of its length.
        size: that length.
        result: coordinates of its result.
    """

    node: int
    value: int
    contracted: frozenset[Axis]
    other: tuple[int, Coordinates]
    size: int
    result: Coordinates


class Frame:
    """The frame of one attention.

    Attributes:
        found: whether there is one. If not, nothing else is there.
        terms: of the graph.
        axes: the frame, outermost first.
        column: the axis of keys.
        scores: coordinates of the scores.
        product: coordinates of the product of queries and keys.
        query, key: the operands of that product: value and coordinates.
        size: the length of the axis that they are summed along.
        uses: the contractions that read what comes of the exponentials.
        is_odd: whether a contraction reads what comes of the exponentials in a way that is not understood.
        places: coordinates of what comes of the exponentials and is as large.
    """

    def __init__(self, asg: Asg, scores: int, product: int, exponentials: int, axis: int):
        self.asg = asg
        self.found = False
        factors = [[n] for n in asg.value_types[scores].shape]
        operands = self._place(scores, product, axis, factors)
        while operands is not None and (cuts := {a: n for _, at in operands for i in at for a, n in split_points(i)}):
            if self.terms.column_axis in cuts:
                return
            for k, parts in enumerate(self._parts):
                factors[k] = [n for part, size in zip(parts, factors[k], strict=True) for n in _split(part, size, cuts)]
            operands = self._place(scores, product, axis, factors)
        if operands is None or any(isinstance(a, Digit) for _, at in operands for i in at for a in i.terms):
            return
        self.axes = tuple(a for parts in self._parts for i in parts for a in i.terms if isinstance(a, Axis))
        reads_column = [self.terms.column_axis in axes_of(at) for _, at in operands]
        if sorted(reads_column) != [False, True]:
            return
        side = reads_column.index(True)
        self.key, self.query = operands[side], operands[1 - side]
        self._spread(exponentials)
        self.found = True

    def _place(self, scores: int, product: int, axis: int, factors: list[list[int]]) -> list | None:
        """The operands of the product and their coordinates, by axes of these lengths; None if there is no one answer."""
        asg = self.asg
        self._parts = [[ix.axis(f"f{k}", n) for n in sizes] for k, sizes in enumerate(factors)]
        self.scores = tuple(ix.linear(parts, sizes) for parts, sizes in zip(self._parts, factors, strict=True))
        (self.column,) = self._parts[axis]
        self.terms = Terms(asg, self.column)
        self.terms.at(scores, self.scores)
        places = self.terms.places.get(product, set())
        if len(places) != 1:
            return None
        (self.product,) = places
        node = asg.nodes[asg.producers[product]]
        contracting = node.params["dimension_numbers"][0][0]
        self.size = asg.value_types[node.inputs[0]].shape[contracting[0]] if contracting else 0
        return self.terms.operands(node, self.product)

    @property
    def inner(self) -> Index:
        """The axis that queries and keys are summed along."""
        return self.terms.summed(self.size)

    def term(self, value: int) -> int:
        """The term of a value that comes of the exponentials."""
        return self.terms.at(value, self.places[value])

    def _spread(self, start: int) -> None:
        """Follows the exponentials to what is made of them element by element."""
        asg, types = self.asg, self.asg.value_types
        self.places: dict[int, Coordinates] = {start: self.scores}
        self.uses: list[Use] = []
        self.is_odd = False
        stack = [start]
        seen: set[tuple[int, int]] = set()
        while stack:
            value = stack.pop()
            at = self.places[value]
            for number in asg.users[value]:
                if (value, number) in seen:
                    continue
                seen.add((value, number))
                node = asg.nodes[number]
                if node.primitive.name == "dot_general":
                    use = self._use(number, node, value, at)
                    if use is None:
                        self.is_odd = True
                    else:
                        self.uses.append(use)
                    continue
                coordinates = pushed(node, at, types[value].shape, [types[i] for i in node.inputs])
                if coordinates is not None:
                    result = asg.first_outputs[number]
                    if result not in self.places:
                        self.places[result] = coordinates
                        stack.append(result)

    def _use(self, number: int, node: Node, value: int, at: Coordinates) -> Use | None:
        """How a contraction reads a value of which the coordinates are known."""
        if node.inputs[0] == node.inputs[1]:
            return None
        contracting, batching = node.params["dimension_numbers"]
        side = node.inputs.index(value)
        other = node.inputs[1 - side]
        shape = self.asg.value_types[other].shape
        places = {b: at[a] for a, b in zip(batching[side], batching[1 - side], strict=True)}
        places |= {b: at[a] for a, b in zip(contracting[side], contracting[1 - side], strict=True)}
        free = [a for a in range(len(shape)) if a not in places]
        if len(free) != 1:
            return None
        size = shape[free[0]]
        places[free[0]] = self.terms.summed(size)
        mine = [at[a] for a in range(len(at)) if a not in (*contracting[side], *batching[side])]
        theirs = [places[free[0]]]
        result = (*(at[a] for a in batching[side]), *(mine + theirs if side == 0 else theirs + mine))
        contracted = axes_of([at[a] for a in contracting[side]])
        coordinates = tuple(places[a] for a in range(len(shape)))
        if any(isinstance(atom, Digit) for i in (*coordinates, *result) for atom in i.terms):
            return None
        return Use(number, value, contracted, (other, coordinates), size, result)


def _split(part: Index, size: int, cuts: Mapping[Axis, int]) -> list[int]:
    """The lengths of the parts that an axis is split into."""
    cut = next((cuts[a] for a in part.terms if isinstance(a, Axis) and a in cuts), None)
    return [size] if cut is None else [size // cut, cut]


def pushed(node: Node, at: Coordinates, shape: Sequence[int], in_types: Sequence) -> Coordinates | None:
    """Coordinates in the result of the element at these coordinates of an operand of that shape; None if it is not there."""
    name = node.primitive.name
    out = node.out_types[0].shape
    if name in RESHAPES:
        return ix.coordinates(ix.linear(at, shape), out)
    if name == "transpose":
        return tuple(at[a] for a in node.params["permutation"])
    if name == "reduce_sum" and reduces_nothing(node, tuple(shape)):
        return tuple(i for k, i in enumerate(at) if k not in node.params["axes"])
    if name == "broadcast_in_dim" and math.prod(out) == math.prod(shape) and math.prod(out):
        places = dict(zip(node.params["broadcast_dimensions"], at, strict=True))
        return tuple(places.get(k, ix.constant(0)) for k in range(len(out)))
    same = name in SAME or name == "convert_element_type" or role_of(node, in_types) == ELEMENTWISE
    return at if same and len(node.out_types) == 1 and out == tuple(shape) else None


def follow(asg: Asg, value: int, at: Coordinates, end: int) -> Coordinates:
    """Coordinates of a value's element in another value, which is made of it by views and conversions."""
    types = asg.value_types
    chain = []
    while end != value:
        chain.append(asg.nodes[asg.producers[end]])
        end = chain[-1].inputs[0]
    for node in reversed(chain):
        found = pushed(node, at, types[node.inputs[0]].shape, [types[node.inputs[0]]])
        assert found is not None
        at = found
    return at


def axes_of(indices: Sequence[Index]) -> frozenset[Axis]:
    """The axes that occur in indices."""
    return frozenset(a for i in indices for a in i.atoms() if isinstance(a, Axis))
