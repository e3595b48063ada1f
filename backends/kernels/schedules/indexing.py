"""Scatter and its reductions, and dynamic_update_slice: they write into a copy of the operand, or into its memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from asgfn.graph.asg import Asg
from backends.kernels import index as ix
from backends.kernels.elements import Elements
from backends.kernels.elements_indexing import update_coordinates
from backends.kernels.ir import BOOL, I32, Builder, Value
from backends.kernels.lowering import Argument, Plan, plan_for_primitive
from backends.kernels.schedules.scatter_segments import scatter_sorted
from backends.kernels.schedules.scatter_slots import COMBINERS, Scatter, SlotRows, exists, row_of
from backends.kernels.schedules.sorter import Sorter
from backends.kernels.schedules.stages import Stages
from backends.kernels.target import Target

FEW = 32  # so many slots are compared with each other instead of being sorted
COLUMNS = 128  # that one core does of a row, at least: what is a few cache lines is better not shared
WORK = 1 << 13  # elements that are worth a task
_ATOMICS = {"add": "atomicAdd", "min": "atomicMin", "max": "atomicMax"}
_IN_PLACE = ((0, 0),)  # the first result starts as the first operand


# ------------------------------------------------------------------ every row once
def _distinct(scatter: Scatter) -> None:
    """No two slots are of one row."""
    s, b = scatter.slots, Builder()
    e = scatter.elements(b)
    out = scatter.output(b)
    with scatter.stages.each(b, s.count * s.width, scatter.name, 8.0 * s.count * s.width) as flat:
        slot, column = flat.digit(s.width), flat.digit(1, s.width)
        row, inside = s.row(e, slot)
        with b.when(inside):
            scatter.merge(b, out, b.index(s.place(row, column)), scatter.update(e, slot, column))


# ------------------------------------------------------------------ on a processor
def _in_turn(scatter: Scatter) -> None:
    """Each workgroup goes through all slots, in order, and does those of its rows, for its columns."""
    s, b, target = scatter.slots, Builder(), scatter.stages.target
    groups = max(1, min(2 * target.cores, s.count * s.width // WORK))
    blocks = min(groups, -(-s.width // COLUMNS))
    bands = min(s.rows, -(-groups // blocks))
    height, width = -(-s.rows // bands), -(-s.width // (blocks * target.simd)) * target.simd
    band, block = ix.coordinates(group := ix.axis("group", bands * blocks), (bands, blocks))
    b.set_axis(group, b.builtin("group_x"))
    e = scatter.elements(b)
    out = scatter.output(b)
    first = b.index(block * width)
    stop = b.op("min", b.op("add", first, b.constant(width, I32)), b.constant(s.width, I32))
    slot, column = ix.axis("slot", s.count), ix.axis("column", s.width)
    with b.loop(slot):
        row, inside = s.row(e, slot)
        mine = None if bands == 1 else b.within(row - band * height, 0, height)
        with b.when(b.both(inside, mine)):
            start = b.op("add", first, b.builtin("thread"))
            with b.loop(column, start=start, stop=stop, step=target.simd):
                scatter.merge(b, out, b.index(s.place(row, column)), scatter.update(e, slot, column))
    moved = 8.0 * s.count * s.width
    scatter.stages.add(b.kernel(scatter.name, (target.simd,), (bands * blocks, 1, 1), bytes=moved))


# ------------------------------------------------------------------ few slots
def _few(scatter: Scatter) -> None:
    """The first slot of each row puts all together, in order; or the last one is written."""
    s, b = scatter.slots, Builder()
    e = scatter.elements(b)
    out = scatter.output(b)
    with scatter.stages.each(b, s.count * s.width, scatter.name, 8.0 * s.count * s.width) as flat:
        slot, column = flat.digit(s.width), flat.digit(1, s.width)
        row, inside = s.row(e, slot)
        mine = b.index(row)
        other = ix.axis("other", s.count)

        def same() -> Value:
            other_row, other_inside = s.row(e, other)
            found = b.op("eq", b.index(other_row), mine, dtype=BOOL)
            return found if other_inside is None else b.op("and", found, other_inside)

        alone = b.variable(b.constant(1, I32))
        number, is_last = b.index(slot), scatter.monoid.name == "last"
        begin, end = (b.op("add", number, b.constant(1, I32)), s.count) if is_last else (0, number)
        with b.loop(other, start=begin, stop=end), b.when(same()):
            b.assign(alone, b.constant(0, I32))
        leads = b.op("eq", b.read(alone), b.constant(1, I32), dtype=BOOL)
        with b.when(b.both(inside, leads)):
            total = b.variable(scatter.update(e, slot, column))
            if not is_last:
                with b.loop(other, start=b.op("add", number, b.constant(1, I32))), b.when(same()):
                    b.assign(total, scatter.monoid.combine(b, b.read(total), scatter.update(e, other, column)))
            scatter.merge(b, out, b.index(s.place(row, column)), b.read(total))


# ------------------------------------------------------------------ one of many wins
def _last(scatter: Scatter) -> None:
    """The last slot of each row is written. They are found through a number for each row."""
    s, b = scatter.slots, Builder()
    winners = scatter.stages.temporary(I32, s.rows, zeros=True)
    e = scatter.elements(b, updates=False)
    memory = scatter.stages.bind(b, winners, "winners")
    with scatter.stages.each(b, s.count, "last updates", 8.0 * s.count) as slot:
        row, inside = s.row(e, slot)
        with b.when(inside):
            b.atomic("atomicMax", memory, b.index(row), b.index(slot + 1))
    b = Builder()
    e = scatter.elements(b)
    memory = scatter.stages.bind(b, winners, "winners")
    out = scatter.output(b)
    with scatter.stages.each(b, s.count * s.width, scatter.name, 8.0 * s.count * s.width) as flat:
        slot, column = flat.digit(s.width), flat.digit(1, s.width)
        row, inside = s.row(e, slot)
        wins = b.op("eq", b.load(memory, b.index(row)), b.index(slot + 1), dtype=BOOL)
        with b.when(b.both(inside, wins)):
            scatter.merge(b, out, b.index(s.place(row, column)), scatter.update(e, slot, column))


def _last_of_sorted(scatter: Scatter) -> None:
    """The same, where rows are so many that a number for each would cost more than sorting the slots."""
    s = scatter.slots
    pairs = Sorter(scatter.stages, 1).sort(SlotRows(scatter))
    b = Builder()
    e = scatter.elements(b, indices=False)
    reader = pairs.open(scatter.stages, b)
    out = scatter.output(b)
    with scatter.stages.each(b, s.count * s.width, scatter.name, 8.0 * s.count * s.width) as flat:
        k, column = flat.digit(s.width), flat.digit(1, s.width)
        zero = ix.constant(0)
        key = reader.key(zero, k)
        following = ix.computed(b.op("min", b.index(k + 1), b.constant(s.count - 1, I32)), 0, s.count - 1)
        is_end = b.op("eq", b.index(k), b.constant(s.count - 1, I32), dtype=BOOL)
        wins = b.op("or", is_end, b.op("ne", key, reader.key(zero, following), dtype=BOOL))
        with b.when(b.op("and", wins, exists(b, key))):
            slot = ix.computed(reader.place(zero, k), 0, s.count - 1)
            scatter.merge(b, out, b.index(s.place(row_of(b, key, s.rows), column)), scatter.update(e, slot, column))


# ------------------------------------------------------------------ many are put together
def _atomic(scatter: Scatter) -> None:
    """Integers: in any order the result is the same."""
    s, b = scatter.slots, Builder()
    e = scatter.elements(b)
    out = scatter.output(b)
    with scatter.stages.each(b, s.count * s.width, scatter.name, 8.0 * s.count * s.width) as flat:
        slot, column = flat.digit(s.width), flat.digit(1, s.width)
        row, inside = s.row(e, slot)
        with b.when(inside):
            b.atomic(_ATOMICS[scatter.monoid.name], out, b.index(s.place(row, column)), scatter.update(e, slot, column))


# ---------------------------------------------------------------------------------------------- plans
@plan_for_primitive(*COMBINERS)
def plan_scatter(asg: Asg, target: Target) -> Plan | None:
    """By what is cheapest for this many slots and rows."""
    operand, indices, updates = asg.inputs
    if not all(target.types.holds(t.dtype) for t in asg.inputs):
        return None
    if not operand.size or not updates.size:
        return Plan((), copies=_IN_PLACE)
    scatter = Scatter(asg, target)
    slots, params = scatter.slots, asg.nodes[0].params
    if params["unique_indices"] or slots.positions == 1:
        _distinct(scatter)
    elif target.simd and (scatter.monoid.name == "last" or scatter.monoid.wide == operand.dtype):
        _in_turn(scatter)
    elif slots.count <= FEW:
        _few(scatter)
    elif scatter.monoid.name == "last":
        if slots.rows <= 16 * slots.count:
            _last(scatter)
        else:
            _last_of_sorted(scatter)
    elif scatter.monoid.name in _ATOMICS and operand.dtype in (np.int32, np.uint32):
        _atomic(scatter)
    else:
        # equal positions are then neighbours, unless something was moved, or others come between
        moves_apart = not slots.drops and indices.shape[-1] > 1
        in_order = params["indices_are_sorted"] and not (
            moves_apart or slots.extents or slots.numbers.operand_batching_dims
        )
        scatter_sorted(scatter, in_order)
    return scatter.stages.plan(_IN_PLACE)


@plan_for_primitive("dynamic_update_slice")
def plan_update(asg: Asg, target: Target) -> Plan | None:
    """Only the update is written."""
    if not all(target.types.holds(t.dtype) for t in asg.inputs):
        return None
    (node,) = asg.nodes
    operand, update = asg.inputs[:2]
    if not update.size:
        return Plan((), copies=_IN_PLACE)
    stages, b = Stages(target), Builder()
    storage = target.types.storage
    inputs: list[Any] = [None]
    for k, t in enumerate(asg.inputs[1:], 1):
        inputs.append(stages.bind(b, Argument("input", k), f"input{k}", storage(t.dtype), t.size))
    e = Elements(b, asg, target.types, inputs, [])
    out = stages.bind(b, Argument("output", 0), "output", storage(operand.dtype), operand.size)
    with stages.each(b, update.size, "dynamic_update_slice", 8.0 * update.size) as flat:
        at = ix.coordinates(flat, update.shape)
        place = ix.linear(update_coordinates(e, node, at), operand.shape)
        b.store(out, b.index(place), target.types.to_memory(b, e.at(1, at), operand.dtype))
    return stages.plan(_IN_PLACE)
