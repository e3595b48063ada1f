"""What one element of a value is: rules from primitives to kernel code, by asking backwards.

`Elements.at(value, coordinates)` writes whatever code computes the element of a graph's value at these coordinates, down
to loads from the graph's inputs. Views change coordinates; element-wise operations ask for their operands at the same
coordinates; a reduction that nobody has computed yet is a loop. So any graph of these operations is a kernel, and a
schedule only decides who computes which elements, in which order, and what is computed together (`resolve`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn.graph.asg import Asg, Node
from asgfn.graph.types import ArrayType
from backends.kernels import index as ix
from backends.kernels import scalar
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, I32, I64, Builder, Memory, Value
from backends.kernels.maxima import is_below_its_maximum
from backends.kernels.types import Types

Coordinates = tuple[Index, ...]
Rule = Callable[..., "Value | list[Value]"]

# rule(elements, node, coordinates, mask) -> the element of the result (or of each result)
_rules: dict[str, Rule] = {}
# those of other modules, which are loaded when there is such a primitive
_ELSEWHERE = {
    "elements_conv": ("conv_general_dilated",),
    "elements_indexing": ("gather", "dynamic_slice", "dynamic_update_slice", "bitcast_convert_type", "threefry2x32"),
    "elements_windows": (
        "reduce_window_sum", "reduce_window_max", "reduce_window_min", "reduce_window_argmax", "reduce_window_argmin",
        "window_gather", "window_scatter_add",
    ),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _ELSEWHERE.items() for name in names}


def element_rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers how an element of a primitive's result is computed."""

    def register(rule: Rule) -> Rule:
        _rules.update(dict.fromkeys(names, rule))
        return rule

    return register


def rule_of(name: str) -> Rule | None:
    """The rule for a primitive; None for those that are computed from the elements of their operands at the same place."""
    if name in _MODULE_OF and name not in _rules:
        importlib.import_module(f"backends.kernels.{_MODULE_OF[name]}")
    return _rules.get(name)


class Unsupported(Exception):
    """A node has no rule, or its types have no place in this kernel language: the caller computes it another way."""


def supports(asg: Asg, types: Types) -> bool:
    """Whether elements of all values of a graph can be asked for."""
    of = asg.value_types
    return all(map(types.holds, {t.dtype for t in of})) and all(
        rule_of(node.primitive.name) is not None
        or scalar.supports(node.primitive.name, [of[i] for i in node.inputs], node.out_types, node.params)
        for node in asg.nodes
    )


class Elements:
    """The elements of one graph's values, as code of one kernel.

    Attributes:
        builder: writes the kernel.
        asg: the graph.
        types: how its dtypes are represented.
    """

    def __init__(
        self, builder: Builder, asg: Asg, types: Types, inputs: Sequence[Memory], constants: Sequence[Memory | None]
    ):
        self.builder, self.asg, self.types = builder, asg, types
        self.value_types = asg.value_types
        self.memories: list[Memory | None] = [*inputs, *constants]
        self.resolved: dict[int, tuple[Coordinates, Value]] = {}
        # the place of each element that was loaded, by memory, for whoever decides how wide loads are
        self.places: dict[int, list[Index]] = {}
        self.lane: int | None = None

    # ------------------------------------------------------------------ asking
    def at(self, value: int, coordinates: Coordinates, mask: Value | None = None) -> Value:
        """The element of a value. Where the mask does not hold, anything may come back, but nothing outside is read."""
        if value in self.resolved and self.resolved[value][0] == coordinates:
            return self.resolved[value][1]
        key = (self, value, coordinates, mask)
        known = self.builder.recall(key)
        if known is None:
            known = self._compute(value, coordinates, mask)
            self.builder.remember(key, known)
        return known

    def resolve(self, value: int, coordinates: Coordinates, element: Value) -> None:
        """Says what the element at these coordinates is: it was computed already."""
        self.resolved[value] = coordinates, element

    def _compute(self, value: int, coordinates: Coordinates, mask: Value | None) -> Value:
        producer = self.asg.producers[value]
        if producer < 0:
            return self._input(value, coordinates, mask)
        node = self.asg.nodes[producer]
        rule = rule_of(node.primitive.name)
        if rule is not None:
            made = rule(self, node, coordinates, mask)
        else:
            in_types = [self.value_types[i] for i in node.inputs]
            operands = [
                self.at(i, coordinates if t.shape else (), mask) for i, t in zip(node.inputs, in_types, strict=True)
            ]
            made = self._apply(node, operands, in_types)
        if isinstance(made, Value):
            return made
        first = self.asg.first_outputs[producer]
        for k, element in enumerate(made):
            self.builder.remember((self, first + k, coordinates, mask), element)
        return made[value - first]

    def _apply(self, node: Node, operands: Sequence[Value], in_types: Sequence[ArrayType]) -> Value | list[Value]:
        """What an element-wise primitive makes of elements."""
        name = node.primitive.name
        if name == "exp" and in_types[0].dtype.itemsize <= 4 and is_below_its_maximum(self.asg, node.inputs[0]):
            name = "exp_below"
        return scalar.apply(self.builder, self.types, name, operands, in_types, node.out_types, node.params)

    def _input(self, value: int, coordinates: Coordinates, mask: Value | None) -> Value:
        t = self.value_types[value]
        memory = self.memories[value]
        if memory is None:  # a scalar constant
            constant = self.asg.constants[value - len(self.asg.inputs)]
            return self.types.constant(self.builder, np.asarray(constant).item(), t.dtype)
        place = ix.linear(coordinates, t.shape)
        self.places.setdefault(value, []).append(place)
        return self.load(memory, place, t.dtype, mask)

    def load(self, memory: Memory, place: Index, dtype: np.dtype, mask: Value | None) -> Value:
        """An element of memory, as the register type of a dtype."""
        b = self.builder
        if memory.width > 1:
            lane = place.constant % memory.width
            group = (place - lane).over(memory.width)
            at, lanes = b.index(group), lane
        else:
            at, lanes = b.index(place), None
        if mask is not None:
            at = b.select(mask, at, b.constant(0, I32))
        return self.types.from_memory(b, b.load(memory, at, lanes), dtype)

    # ------------------------------------------------------------------ what rules use
    def type(self, value: int) -> ArrayType:
        return self.value_types[value]

    def integer(self, value: int, coordinates: Coordinates, low: int, high: int, mask: Value | None) -> Index:
        """An element of an integer array, clamped to these bounds, as something to index with."""
        b = self.builder
        found = self.at(value, coordinates, mask)
        if low == high:
            return ix.constant(low)
        if found.dtype != I32:  # compared before it is narrowed, which may bring what is large into range
            top = b.constant(high, found.dtype)
            if found.dtype == I64:
                found = b.op("max", found, b.constant(low, I64))
            found = b.op("convert", b.op("min", found, top), dtype=I32)
        clamped = b.op("min", b.op("max", found, b.constant(low, I32)), b.constant(high, I32))
        return ix.computed(clamped, low, high)

    def combine(self, primitive: str, a: Value, b: Value, dtype: np.dtype) -> Value:
        """A binary primitive of two elements of one dtype."""
        t = ArrayType((), dtype)
        made = scalar.apply(self.builder, self.types, primitive, [a, b], [t, t], [t], {})
        assert isinstance(made, Value)
        return made

    def condition_of(self, *conditions: Value | None) -> Value | None:
        return self.builder.both(*conditions)


# ---------------------------------------------------------------------------------------------- views
@element_rule("broadcast_in_dim")
def _broadcast(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    (x,) = node.inputs
    axes = zip(e.type(x).shape, node.params["broadcast_dimensions"], strict=True)
    return e.at(x, tuple(ix.constant(0) if n == 1 else at[axis] for n, axis in axes), mask)


@element_rule("reshape", "squeeze", "expand_dims")
def _reshape(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    (x,) = node.inputs
    return e.at(x, ix.coordinates(ix.linear(at, node.out_types[0].shape), e.type(x).shape), mask)


@element_rule("copy", "name", "stop_gradient")
def _same(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    return e.at(node.inputs[0], at, mask)


@element_rule("optimization_barrier")
def _barrier(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> list[Value]:
    return [e.at(i, at, mask) for i in node.inputs]


@element_rule("transpose")
def _transpose(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    (x,) = node.inputs
    coordinates: list[Any] = [None] * len(at)
    for i, axis in zip(at, node.params["permutation"], strict=True):
        coordinates[axis] = i
    return e.at(x, tuple(coordinates), mask)


@element_rule("slice")
def _slice(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    (x,) = node.inputs
    strides = node.params.get("strides") or (1,) * len(at)
    return e.at(
        x, tuple(i * s + start for i, s, start in zip(at, strides, node.params["start_indices"], strict=True)), mask
    )


@element_rule("rev")
def _rev(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    (x,) = node.inputs
    turned = node.params["dimensions"]
    return e.at(
        x,
        tuple(-i + (n - 1) if k in turned else i for k, (i, n) in enumerate(zip(at, e.type(x).shape, strict=True))),
        mask,
    )


@element_rule("pad")
def _pad(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    x, filler = node.inputs
    shape = e.type(x).shape
    coordinates, inside = padded(e.builder, at, shape, node.params["padding_config"])
    if inside is None:
        return e.at(x, coordinates, mask)
    element = e.at(x, coordinates, e.condition_of(mask, inside))
    return e.builder.select(inside, element, e.at(filler, (), mask))


def padded(
    b: Builder, at: Coordinates, shape: Sequence[int], config: Sequence[tuple[int, int, int]]
) -> tuple[Coordinates, Value | None]:
    """Coordinates in an array of those in the padded one, and whether there is an element (None: there always is)."""
    coordinates: list[Index] = []
    checks: list[Value | None] = []
    for i, n, (low, _, interior) in zip(at, shape, config, strict=True):
        place = i - low
        if interior:
            step = interior + 1
            # from a multiple of the step on, so that what is divided is not negative
            lift = -(place.low // step) if place.low < 0 else 0
            lifted = place + lift * step
            rest = lifted.digit(1, step)
            if not (rest.is_constant and rest.constant == 0):
                checks.append(b.op("eq", b.index(rest), b.constant(0, I32), dtype=BOOL))
            place = lifted.digit(step) - lift
        checks.append(b.within(place, 0, n))
        coordinates.append(place)
    return tuple(coordinates), b.both(*checks)


@element_rule("concatenate")
def _concatenate(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    b, axis = e.builder, node.params["dimension"]
    start = sum(e.type(i).shape[axis] for i in node.inputs)
    result: Value | None = None
    for value in reversed(node.inputs):
        n = e.type(value).shape[axis]
        start -= n
        if n == 0:
            continue
        place = at[axis] - start
        element = e.at(value, (*at[:axis], place, *at[axis + 1 :]), e.condition_of(mask, b.within(place, 0, n)))
        if result is None:
            result = element
            continue
        # pieces come in order: what is below the end of this one, and of none before it, is in it
        below = b.op("lt", b.index(at[axis]), b.constant(start + n, I32), dtype=BOOL)
        result = b.select(below, element, result)
    assert result is not None
    return result


@element_rule("iota")
def _iota(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    found = e.builder.index(at[node.params["dimension"]])
    return e.types.from_integer(e.builder, found, node.out_types[0].dtype)


# ---------------------------------------------------------------------------------------------- reductions
COMBINERS = {
    "reduce_sum": "add", "reduce_prod": "mul", "reduce_max": "max", "reduce_min": "min", "reduce_and": "and",
    "reduce_or": "or", "reduce_xor": "xor",
}  # fmt: skip


def start_value(name: str, dtype: np.dtype) -> Any:
    """What a reduction starts from: the identity of its combination."""
    kind = np.dtype(dtype).kind
    if name in ("reduce_sum", "reduce_or", "reduce_xor"):
        return False if kind == "b" else 0
    if name == "reduce_prod":
        return 1
    if name == "reduce_and":
        return True if kind == "b" else (-1 if kind == "i" else int(np.iinfo(dtype).max))
    if kind == "b":
        return name == "reduce_min"
    if kind in "iu":
        bounds = np.iinfo(dtype)
        return int(bounds.min if name == "reduce_max" else bounds.max)
    return float("-inf") if name == "reduce_max" else float("inf")


def operand_coordinates(node: Node, shape: Sequence[int], kept: Coordinates, reduced: Coordinates) -> Coordinates:
    """Coordinates in a reduction's operand, from those of its result and of the axes that it reduces."""
    kept_, reduced_ = list(kept), list(reduced)
    return tuple(reduced_.pop(0) if axis in node.params["axes"] else kept_.pop(0) for axis in range(len(shape)))


REDUCTIONS = (*COMBINERS, "argmax", "argmin")


@element_rule(*COMBINERS)
def _reduce(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    (x,) = node.inputs
    t = e.type(x)
    start = e.types.constant(e.builder, start_value(node.primitive.name, t.dtype), t.dtype)

    def step(reduced: Coordinates, total: Value) -> Value:
        element = e.at(x, operand_coordinates(node, t.shape, at, reduced), mask)
        return e.combine(COMBINERS[node.primitive.name], total, element, t.dtype)

    return accumulate(e.builder, [t.shape[axis] for axis in node.params["axes"]], start, step)


def accumulate(b: Builder, sizes: Sequence[int], start: Value, step: Callable[[Coordinates, Value], Value]) -> Value:
    """A number that goes through nested loops of these sizes."""
    total = b.variable(start)
    axes = tuple(ix.axis("r", n) for n in sizes)

    def nest(k: int) -> None:
        if k == len(axes):
            b.assign(total, step(axes, b.read(total)))
            return
        with b.loop(axes[k]):
            nest(k + 1)

    nest(0)
    return b.read(total)


@element_rule("argmax", "argmin")
def _arg_reduce(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    b = e.builder
    (x,) = node.inputs
    t = e.type(x)
    (axis,) = node.params["axes"]
    along = ix.axis("r", t.shape[axis])
    first = e.at(x, (*at[:axis], ix.constant(0), *at[axis:]), mask)
    best, place = b.variable(first), b.variable(b.constant(0, I32))
    with b.loop(along, start=1):
        element = e.at(x, (*at[:axis], along, *at[axis:]), mask)
        with b.when(scalar.goes_before(b, e.types, node.primitive.name, element, b.read(best))):
            b.assign(best, element)
            b.assign(place, b.index(along))
    return e.types.from_integer(b, b.read(place), node.out_types[0].dtype)


# ---------------------------------------------------------------------------------------------- contractions
@element_rule("dot_general")
def _dot_general(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    product = dot_product(e, node, at, mask)
    out = node.out_types[0]
    start = e.types.constant(e.builder, 0, out.dtype)
    return accumulate(e.builder, product.sizes, start, product.step)


class Contraction:
    """The loops of one element of a contraction, and what each step adds."""

    def __init__(self, sizes: Sequence[int], step: Callable[[Coordinates, Value], Value]):
        self.sizes, self.step = list(sizes), step


def dot_product(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Contraction:
    x, y = node.inputs
    (x_contract, y_contract), (x_batch, y_batch) = node.params["dimension_numbers"]
    x_free = [a for a in range(e.type(x).ndim) if a not in (*x_contract, *x_batch)]
    y_free = [a for a in range(e.type(y).ndim) if a not in (*y_contract, *y_batch)]
    batch, n_x = len(x_batch), len(x_free)
    out = node.out_types[0].dtype

    def place(contract: Any, batched: Any, free: Any, free_at: Coordinates, along: Coordinates) -> Coordinates:
        found = {**dict(zip(batched, at[:batch], strict=True)), **dict(zip(free, free_at, strict=True))}
        found.update(zip(contract, along, strict=True))
        return tuple(found[a] for a in range(len(found)))

    def step(along: Coordinates, total: Value) -> Value:
        a = e.at(x, place(x_contract, x_batch, x_free, at[batch : batch + n_x], along), mask)
        c = e.at(y, place(y_contract, y_batch, y_free, at[batch + n_x :], along), mask)
        a, c = (e.types.convert(e.builder, v, e.type(i).dtype, out) for v, i in ((a, x), (c, y)))
        return multiply_add(e, a, c, total, out)

    return Contraction([e.type(x).shape[a] for a in x_contract], step)


def multiply_add(e: Elements, a: Value, c: Value, total: Value, dtype: np.dtype) -> Value:
    """total + a * c."""
    if dtype.kind == "b":
        return e.combine("or", total, e.combine("and", a, c, dtype), dtype)
    if dtype.kind == "f":
        return e.builder.op("fma", a, c, total)
    return e.combine("add", total, e.combine("mul", a, c, dtype), dtype)
