"""What an element of a value is, as a term: two expressions that differ only in reshapes and transposes are one term.

`Terms.at(value, coordinates)` follows a graph backwards, as `backends.kernels.elements` does to write code. Here the
result is a number that stands for the term, equal for equal terms, so that patterns are found by comparing numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from asgfn.graph.asg import Asg, Node
from asgfn.graph.types import ArrayType
from asgfn.transforms.region_roles import ELEMENTWISE, role_of
from backends.kernels import index as ix
from backends.kernels.index import Axis, Digit, Index

Coordinates = tuple[Index, ...]

SAME = frozenset(("copy", "name", "stop_gradient"))
RESHAPES = frozenset(("reshape", "squeeze", "expand_dims"))
_DEEPEST = 100  # what lies deeper is taken as it is: patterns are shallow


class Terms:
    """Terms of one graph.

    Attributes:
        column: the axis along which rows are reduced. Any reduction along an axis of that length is written with it.
        keys: what each term is made of.
        places: for each value the coordinates at which it was asked for.
    """

    def __init__(self, asg: Asg, column: Index):
        self.asg, self.types = asg, asg.value_types
        self.column = column
        (axis,) = column.terms
        assert isinstance(axis, Axis)
        self.column_axis = axis
        self.keys: list[tuple] = []
        self.places: dict[int, set[Coordinates]] = {}
        self._ids: dict[tuple, int] = {}
        self._known: dict[tuple[int, Coordinates], int] = {}
        self._summed: dict[int, Index] = {}
        self._axes: dict[int, frozenset[Axis]] = {}

    def intern(self, *key: Any) -> int:
        """The number of a term."""
        found = self._ids.get(key)
        if found is None:
            found = self._ids[key] = len(self.keys)
            self.keys.append(key)
        return found

    def summed(self, size: int) -> Index:
        """The axis that contractions over an axis of this length are written with."""
        if size not in self._summed:
            self._summed[size] = ix.axis("summed", size)
        return self._summed[size]

    def at(self, value: int, coordinates: Coordinates, depth: int = 0) -> int:
        """The term of a value's element."""
        key = (value, coordinates)
        found = self._known.get(key)
        if found is None:
            self.places.setdefault(value, set()).add(coordinates)
            found = self._known[key] = self._term(value, coordinates, depth + 1)
        return found

    def _term(self, value: int, at: Coordinates, depth: int) -> int:
        producer = self.asg.producers[value]
        if producer < 0:
            return self._source(value, at)
        node = self.asg.nodes[producer]
        name = node.primitive.name
        if depth > _DEEPEST or len(node.out_types) != 1:
            return self.intern("leaf", value, at)
        if name == "iota":
            return self.intern("iota", at[node.params["dimension"]])
        if name in ("reduce_sum", "reduce_max") and not reduces_nothing(node, self.types[node.inputs[0]].shape):
            inner = self._reduced(node, at)
            return self.intern("leaf", value, at) if inner is None else self.intern(name, self.at(*inner, depth))
        if name == "dot_general":
            operands = self.operands(node, at)
            if operands is None:
                return self.intern("leaf", value, at)
            return self.intern("dot", *sorted(self.operand(*operand) for operand in operands))
        inner = seen_through(self.types, node, at)
        if inner is not None:
            return self.at(*inner, depth)
        in_types = [self.types[i] for i in node.inputs]
        if role_of(node, in_types) != ELEMENTWISE and name != "convert_element_type":
            return self.intern("leaf", value, at)
        arguments = [self.at(i, at if t.shape else (), depth) for i, t in zip(node.inputs, in_types, strict=True)]
        if name == "convert_element_type" and _keeps_value(in_types[0].dtype, node.out_types[0].dtype):
            return arguments[0]
        return self.intern("op", name, node.params, *arguments)

    def operand(self, value: int, at: Coordinates) -> int:
        """The term of an element of a product's operand: views are seen through, but nothing else."""
        while (maker := self.asg.producers[value]) >= 0:
            node = self.asg.nodes[maker]
            inner = seen_through(self.types, node, at)
            if inner is None and node.primitive.name == "convert_element_type":
                source = self.types[node.inputs[0]].dtype
                inner = (node.inputs[0], at) if _keeps_value(source, node.out_types[0].dtype) else None
            if inner is None:
                return self.intern("leaf", value, at)
            value, at = inner
        return self._source(value, at)

    def _source(self, value: int, at: Coordinates) -> int:
        if value >= len(self.asg.inputs) and not self.types[value].shape:
            number = np.asarray(self.asg.constants[value - len(self.asg.inputs)]).item()
            return self.intern("constant", type(number).__name__, repr(number), number)
        return self.intern("leaf", value, at)

    def _reduced(self, node: Node, at: Coordinates) -> tuple[int, Coordinates] | None:
        """What is reduced, if it is along an axis as long as the columns."""
        shape = self.types[node.inputs[0]].shape
        if len(node.params["axes"]) != 1 or any(self.column_axis in i.atoms() for i in at):
            return None
        (axis,) = node.params["axes"]
        return (node.inputs[0], (*at[:axis], self.column, *at[axis:])) if shape[axis] == self.column_axis.size else None

    def operands(self, node: Node, at: Coordinates) -> list[tuple[int, Coordinates]] | None:
        """The factors of a product's element, summed over one axis; None if there are more, or none of that name is free."""
        shapes = [self.types[i].shape for i in node.inputs]
        found = product_coordinates(node, shapes, at, self.summed)
        if found is None:
            return None
        size = shapes[0][node.params["dimension_numbers"][0][0][0]]
        taken = {a for i in at for a in i.atoms()}
        return list(zip(node.inputs, found, strict=True)) if taken.isdisjoint(self.summed(size).atoms()) else None

    # ------------------------------------------------------------------ about terms
    def arguments(self, term: int) -> tuple[int, ...]:
        """The terms that a term is made of."""
        kind, *rest = self.keys[term]
        if kind == "op":
            return tuple(rest[2:])
        if kind in ("sum", "holds"):
            return tuple(a for a, _ in rest[0]) if kind == "sum" else (rest[0],)
        return tuple(rest) if kind in ("reduce_sum", "reduce_max", "dot") else ()

    def axes(self, term: int) -> frozenset[Axis]:
        """The axes that a term's value depends on."""
        known = self._axes.get(term)
        if known is None:
            kind, *rest = self.keys[term]
            indices: Iterable[Index] = rest[1] if kind == "leaf" else (rest[0],) if kind == "iota" else ()
            known = frozenset(a for i in indices for a in i.atoms() if isinstance(a, Axis))
            known = known.union(*map(self.axes, self.arguments(term)))
            if kind in ("reduce_sum", "reduce_max", "sum"):
                known = known - {self.column_axis}
            self._axes[term] = known
        return known

    def contains(self, term: int, parts: frozenset[int]) -> bool:
        """Whether any of these terms is a term, or in it."""
        stack, seen = [term], set()
        while stack:
            t = stack.pop()
            if t in parts:
                return True
            if t not in seen:
                seen.add(t)
                stack += self.arguments(t)
        return False

    def constant(self, term: int) -> Any:
        """The number that a term is; None if it is none."""
        key = self.keys[term]
        return key[3] if key[0] == "constant" else None

    def operation(self, term: int, name: str) -> tuple[int, ...] | None:
        """The arguments of a term that is this operation."""
        key = self.keys[term]
        return key[3:] if key[0] == "op" and key[1] == name else None


def reduces_nothing(node: Node, shape: tuple[int, ...]) -> bool:
    """Whether a reduction is one along axes of length 1: a view, really."""
    return node.primitive.name == "reduce_sum" and all(shape[a] == 1 for a in node.params["axes"])


def seen_through(types: tuple[ArrayType, ...], node: Node, at: Coordinates) -> tuple[int, Coordinates] | None:
    """The element that a view's element is; None if the node is no view."""
    name = node.primitive.name
    if name in SAME:
        return node.inputs[0], at
    if not node.inputs:
        return None
    x = node.inputs[0]
    shape = types[x].shape
    if name == "broadcast_in_dim":
        pairs = zip(shape, node.params["broadcast_dimensions"], strict=True)
        return x, tuple(ix.constant(0) if n == 1 else at[axis] for n, axis in pairs)
    if name in RESHAPES:
        return x, ix.coordinates(ix.linear(at, node.out_types[0].shape), shape)
    if name == "transpose":
        order = node.params["permutation"]
        return x, tuple(at[order.index(k)] for k in range(len(at)))
    if name == "reduce_sum" and reduces_nothing(node, shape):
        kept = list(at)
        return x, tuple(ix.constant(0) if k in node.params["axes"] else kept.pop(0) for k in range(len(shape)))
    if name == "slice":
        strides = node.params.get("strides") or (1,) * len(at)
        return x, tuple(i * s + start for i, s, start in zip(at, strides, node.params["start_indices"], strict=True))
    return None


def product_coordinates(
    node: Node, shapes: list[tuple[int, ...]], at: Coordinates, summed: Any
) -> list[Coordinates] | None:
    """Coordinates of the factors of a product's element, for products that sum over one axis, `summed(its size)`."""
    contracting, batching = node.params["dimension_numbers"]
    if len(contracting[0]) != 1:
        return None
    found, start = [], len(batching[0])
    for shape, contract, batch in zip(shapes, contracting, batching, strict=True):
        free = [a for a in range(len(shape)) if a not in (*contract, *batch)]
        places = dict(zip(batch, at[: len(batch)], strict=True)) | dict(
            zip(free, at[start : start + len(free)], strict=True)
        )
        places[contract[0]] = summed(shape[contract[0]])
        start += len(free)
        found.append(tuple(places[a] for a in range(len(shape))))
    return found


def _keeps_value(source: np.dtype, target: np.dtype) -> bool:
    """Whether a conversion is one between floats (which only rounds), or keeps all integers of interest."""
    floats = all(d.kind in "fV" for d in (source, target))
    return floats or (source.kind in "iu" and target.kind in "iu" and target.itemsize >= 4)


def split_points(index: Index) -> Iterable[tuple[Axis, int]]:
    """Axes that would have to be split, and where, for an index not to need digits of them."""
    for atom in index.terms:
        if not isinstance(atom, Digit):
            continue
        for cut in (atom.step, atom.step * (atom.base or 1)):
            for inner, c in atom.index.terms.items():
                if (
                    isinstance(inner, Axis)
                    and cut % c == 0
                    and 1 < cut // c < inner.size
                    and inner.size % (cut // c) == 0
                ):
                    yield inner, cut // c
