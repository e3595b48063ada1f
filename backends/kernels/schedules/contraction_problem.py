"""A contraction as a product of matrices: result[b, m, n] = sum over k of left[b, m, k] * right[b, k, n].

The four axes b, m, n, k are each some axes of the operands, merged. Where an element of an operand is follows from
`Index` arithmetic, so that transposes, reshapes, padding, and the windows that a convolution sees need no copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn.graph.asg import Node
from asgfn.graph.types import ArrayType
from asgfn.records import record, replace
from backends.kernels import index as ix
from backends.kernels.elements import Coordinates, Elements
from backends.kernels.elements_conv import ConvolutionAxes
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, F16, F32, F64, U32, Builder, Value

Sizes = tuple[int, ...]
FLOAT32 = np.dtype(np.float32)


@record
class Side:
    """An operand.

    Attributes:
        value: of the graph.
        sizes: lengths of the axes that are the result's, too.
        place: (builder, batch, free, depth) -> coordinates in the operand, and whether there is an element.
        is_image: whether windows of it are what a convolution sees.
    """

    value: int
    sizes: Sizes
    place: Callable[[Builder, Coordinates, Coordinates, Coordinates], tuple[Coordinates, Value | None]]
    is_image: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.sizes)


@record
class Contraction:
    """A product of matrices.

    Attributes:
        rows, columns: the operands: m is an index of the first one's free axes, n of the second's.
        batch, depth: lengths of the axes that b and k are made of.
        out: (batch, rows, columns) -> coordinates of the result.
        dtype: of the result.
        channels: which axis of the depth is channels, of a convolution whose kernel has several taps; else None.
        all_taps: (builder, batch) -> for each other axis of the depth whether it is as long as `depth` says, or one shorter
            (None: always as long), if that depends on the batch.
        useful: the share of all operations that are not with zeros.
    """

    rows: Side
    columns: Side
    batch: Sizes
    depth: Sizes
    out: Callable[[Coordinates, Coordinates, Coordinates], Coordinates]
    dtype: np.dtype
    channels: int | None = None
    all_taps: Callable[[Builder, Coordinates], list[Value | None]] | None = None
    useful: float = 1.0

    @property
    def m(self) -> int:
        return self.rows.size

    @property
    def n(self) -> int:
        return self.columns.size

    @property
    def k(self) -> int:
        return math.prod(self.depth)

    @property
    def b(self) -> int:
        return math.prod(self.batch)

    def swapped(self) -> Contraction:
        """The same with rows and columns exchanged."""
        out = self.out
        return replace(self, rows=self.columns, columns=self.rows, out=lambda b, m, n: out(b, n, m))

    def with_taps(self) -> Contraction:
        """The same, where the image has no elements for taps that its kernel does not have: what is infinite is not
        multiplied by their zeros."""
        if self.all_taps is None:
            return self

        def seen(image: Side, kernel: Side) -> Side:
            def place(b: Builder, batch: Coordinates, free: Coordinates, k: Coordinates) -> Any:
                found, inside = image.place(b, batch, free, k)
                _, there = kernel.place(b, batch, tuple(ix.constant(0) for _ in kernel.sizes), k)
                return found, b.both(inside, there)

            return replace(image, place=place) if image.is_image else image

        return replace(self, rows=seen(self.rows, self.columns), columns=seen(self.columns, self.rows))

    def in_steps(self, length: int) -> Contraction:
        """The same, with k in an order in which each step of this length sees one tap of a convolution's kernel.

        Then where a step's elements are, and which of them there are, takes little arithmetic; and steps that follow each
        other read the same channels.
        """
        axis = self.channels
        if axis is None or self.depth[axis] % length:
            return self

        def ordered(side: Side) -> Side:
            def place(b: Builder, batch: Coordinates, free: Coordinates, k: Coordinates) -> Any:
                outer, *taps, inner = k
                return side.place(b, batch, free, (*taps[:axis], outer * length + inner, *taps[axis:]))

            return replace(side, place=place)

        others = (*self.depth[:axis], *self.depth[axis + 1 :])
        depth = (self.depth[axis] // length, *others, length)
        return replace(self, rows=ordered(self.rows), columns=ordered(self.columns), depth=depth, channels=None)

    def reordered(self, rows: Sequence[int], depth: Sequence[int]) -> Contraction:
        """The same, with the axes that m and k are made of in other orders."""
        left, right, out = self.rows, self.columns, self.out

        def place_left(b: Builder, batch: Coordinates, free: Coordinates, k: Coordinates) -> Any:
            return left.place(b, batch, _unordered(free, rows), _unordered(k, depth))

        def place_right(b: Builder, batch: Coordinates, free: Coordinates, k: Coordinates) -> Any:
            return right.place(b, batch, free, _unordered(k, depth))

        def all_taps(b: Builder, batch: Coordinates) -> list[Value | None]:
            assert self.all_taps is not None
            found = self.all_taps(b, batch)
            others = [axis for axis in range(len(depth)) if axis != self.channels]
            return [found[others.index(axis)] for axis in depth if axis != self.channels]

        return replace(
            self,
            rows=replace(left, sizes=tuple(left.sizes[i] for i in rows), place=place_left),
            columns=replace(right, place=place_right),
            depth=tuple(self.depth[i] for i in depth),
            out=lambda b, m, n: out(b, _unordered(m, rows), n),
            channels=None if self.channels is None else depth.index(self.channels),
            all_taps=None if self.all_taps is None else all_taps,
        )

    def result(self, b: Index, m: Index, n: Index) -> Coordinates:
        """Coordinates of an element of the result."""
        parts = ((b, self.batch), (m, self.rows.sizes), (n, self.columns.sizes))
        return self.out(*(ix.coordinates(i, sizes) for i, sizes in parts))

    def element(
        self, e: Elements, side: Side, b: Index, free: Index, k: Index, mask: Value | None = None
    ) -> tuple[Value, Value | None]:
        """An element of an operand as it is; and where there is one (None: everywhere), elsewhere it may be anything."""
        parts = ((b, self.batch), (free, side.sizes), (k, self.depth))
        return self.element_at(e, side, [ix.coordinates(i, sizes) for i, sizes in parts], mask)

    def element_at(
        self, e: Elements, side: Side, at: Sequence[Coordinates], mask: Value | None = None
    ) -> tuple[Value, Value | None]:
        """The same, by coordinates along the axes that b, the free axis and k are made of."""
        place, inside = side.place(e.builder, *at)
        mask = e.builder.both(mask, inside)
        return e.at(side.value, place, mask), mask

    def read(self, e: Elements, side: Side, b: Index, free: Index, k: Index, mask: Value | None = None) -> Value:
        """An element of an operand, as the type that is summed in; 0 where there is none."""
        parts = ((b, self.batch), (free, side.sizes), (k, self.depth))
        return self.read_at(e, side, [ix.coordinates(i, sizes) for i, sizes in parts], mask)

    def read_at(self, e: Elements, side: Side, at: Sequence[Coordinates], mask: Value | None = None) -> Value:
        """The same, by coordinates along the axes that b, the free axis and k are made of."""
        work = Arithmetic(self.dtype, e)
        found, mask = self.element_at(e, side, at, mask)
        element = work.operand(found, e.type(side.value).dtype)
        return element if mask is None else e.builder.select(mask, element, work.zero)


class Arithmetic:
    """How products are summed: floats in 32 bits (64 if they have as many), integers wrapping around, booleans as bits."""

    def __init__(self, dtype: np.dtype, e: Elements):
        self.dtype, self.types, self.builder = dtype, e.types, e.builder
        register = e.types.register(dtype)
        self.register = {F16: F32, BOOL: U32}.get(register, register)
        self.is_float, self.is_bool = self.register in (F32, F64), register == BOOL
        self.float_dtype = np.dtype(np.float64) if self.register == F64 else FLOAT32
        self.zero = e.builder.constant(0.0 if self.is_float else 0, self.register)

    def operand(self, element: Value, dtype: np.dtype) -> Value:
        """An operand's element as a number to multiply."""
        if self.is_bool:
            b, known = self.builder, self.types.convert(self.builder, element, dtype, self.dtype)
            return b.select(known, b.constant(1, U32), b.constant(0, U32))
        return self.types.convert(self.builder, element, dtype, self.float_dtype if self.is_float else self.dtype)

    def add_product(self, a: Value, c: Value, total: Value) -> Value:
        """total + a * c, of numbers or of vectors."""
        b = self.builder
        if self.is_float:
            return b.op("fma", a, c, total)
        if self.is_bool:
            return b.op("or", total, b.op("and", a, c))
        return b.op("add", total, b.op("mul", a, c))

    def add(self, a: Value, c: Value) -> Value:
        return self.builder.op("or" if self.is_bool else "add", a, c)

    def result(self, total: Value) -> Value:
        """A finished sum, in the register type of the result."""
        if self.is_bool:
            return self.builder.op("ne", total, self.builder.constant(0, U32), dtype=BOOL)
        if self.is_float:
            return self.types.convert(self.builder, total, self.float_dtype, self.dtype)
        return self.types.rounded(self.builder, total, self.dtype)


def contraction_of(node: Node, in_types: tuple[ArrayType, ArrayType]) -> Contraction:
    """The product that a `dot_general` or `conv_general_dilated` is."""
    make = _from_dot if node.primitive.name == "dot_general" else _from_convolution
    return make(node, *in_types)


def _from_dot(node: Node, lhs: ArrayType, rhs: ArrayType) -> Contraction:
    (x_contract, y_contract), (x_batch, y_batch) = node.params["dimension_numbers"]
    # contracted axes in the order of the larger operand's memory: then neighbours in k are neighbours there
    pairs = sorted(zip(x_contract, y_contract, strict=True), key=lambda pair: pair[rhs.size > lhs.size])

    def side(value: int, t: ArrayType, contract: Sizes, batch: Sizes) -> Side:
        free = tuple(a for a in range(t.ndim) if a not in contract and a not in batch)
        axes = (*batch, *free, *contract)

        def place(_: Builder, b: Coordinates, r: Coordinates, k: Coordinates) -> tuple[Coordinates, None]:
            found = dict(zip(axes, (*b, *r, *k), strict=True))
            return tuple(found[a] for a in range(t.ndim)), None

        return Side(value, tuple(t.shape[a] for a in free), place)

    return Contraction(
        side(node.inputs[0], lhs, tuple(a for a, _ in pairs), tuple(x_batch)),
        side(node.inputs[1], rhs, tuple(a for _, a in pairs), tuple(y_batch)),
        tuple(lhs.shape[a] for a in x_batch),
        tuple(lhs.shape[a] for a, _ in pairs),
        lambda b, m, n: (*b, *m, *n),
        node.out_types[0].dtype,
    )


def _from_convolution(node: Node, lhs: ArrayType, rhs: ArrayType) -> Contraction:
    """Rows are positions in the batch, columns are features, depth is channels and taps."""
    axes = ConvolutionAxes(node, lhs.shape, rhs.shape)
    phases = axes.phases
    # merged axes follow memory: depth that of the first operand, rows that of the result
    depth_order = _order((axes.lhs_spec[1], *axes.lhs_spec[2:]))
    row_order = _order((axes.out_spec[0], *axes.out_spec[2:]))
    if axes.is_gradient:  # neighbours in the batch, its channels, see the same elements of an image
        row_order = (*(i for i in row_order if i), 0)
    depth = (axes.channels, *(-(-k // d) for k, d in zip(axes.taps, phases, strict=True)))
    rows = (axes.batch, *(p // d for p, d in zip(axes.positions, phases, strict=True)))

    in_steps = not axes.is_gradient and max([*depth[1:], *phases], default=1) > 1

    def place_lhs(b: Builder, batch: Coordinates, r: Coordinates, k: Coordinates) -> tuple[Coordinates, Value | None]:
        (group, *phase), (n, *places) = batch, _unordered(r, row_order)
        channel, *taps = _unordered(k, depth_order)
        return axes.in_phase(b, group, n, channel, tuple(phase), tuple(places), tuple(taps))

    def place_rhs(b: Builder, batch: Coordinates, r: Coordinates, k: Coordinates) -> tuple[Coordinates, Value | None]:
        group, *phase = batch
        channel, *numbers = _unordered(k, depth_order)
        taps, inside = axes.taps_in_phase(b, tuple(phase), tuple(numbers))
        return axes.rhs(group, r[0], channel, taps), inside

    def all_taps(b: Builder, batch: Coordinates) -> list[Value | None]:
        found = axes.all_taps(b, tuple(batch[1:]))
        return [found[i - 1] for i in depth_order if i]

    def out(batch: Coordinates, m: Coordinates, n: Coordinates) -> Coordinates:
        (group, *phase), (number, *places) = batch, _unordered(m, row_order)
        positions = tuple(u * d + r for u, d, r in zip(places, phases, phase, strict=True))
        return axes.out(group, number, n[0], positions)

    return Contraction(
        Side(node.inputs[0], tuple(rows[i] for i in row_order), place_lhs, is_image=True),
        Side(node.inputs[1], (axes.features,), place_rhs),
        (axes.groups, *phases),
        tuple(depth[i] for i in depth_order),
        out,
        node.out_types[0].dtype,
        depth_order.index(0) if in_steps else None,
        all_taps if in_steps and any(k % d for k, d in zip(axes.taps, phases, strict=True)) else None,
        math.prod(k / (d * n) for k, d, n in zip(axes.taps, phases, depth[1:], strict=True)),
    )


def _order(places: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(places)), key=places.__getitem__))


def _unordered(coordinates: Coordinates, order: Sequence[int]) -> Coordinates:
    found: list[Index] = [ix.constant(0)] * len(order)
    for i, at in zip(order, coordinates, strict=True):
        found[i] = at
    return tuple(found)
