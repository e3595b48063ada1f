"""Loops and branches, on the device where that can be.

A loop of known length whose body has only kernels never comes back to the host: its kernels find the row of what it runs
over by the number of the step, and its carries are written in place or change places. A branch of kernels is a list whose
grids are empty unless it is taken. A loop with a condition runs several steps, whose grids are empty once the condition
has failed, before the host looks whether it has. Bodies that need the host (callbacks, operations without a kernel) are
run by the host, step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asgfn.graph.asg import Asg, Node
from backends.programs.compiler import Compiler
from backends.programs.sharing import join_carries, join_copies
from backends.programs.sizes import storage_bytes
from backends.programs.steps import (
    CONSTANT,
    NEVER,
    TEMPORARY,
    Branch,
    Dispatch,
    Guard,
    Loop,
    Scope,
    Storage,
    Val,
    While,
    dispatches,
    inner_lists,
    is_on_device,
)  # fmt: skip

# returns the node's results; None if it has to run on the host as a whole
CONTROL: dict[str, Callable[[Compiler, Node, list[Val]], list[Val] | None]] = {}


def control(name: str) -> Callable:
    def register(f: Callable) -> Callable:
        CONTROL[name] = f
        return f

    return register


def _have_place(c: Compiler, node: Node, ins: Sequence[Val]) -> bool:
    """Whether everything that goes in and out can be on the device."""
    most = c.target.binding_bytes
    return all(
        t.size == 0 or (c.holds(t) and storage_bytes(t, c.target) <= most)
        for t in (*(v.aval for v in ins), *node.out_types)
    )


def _ready(c: Compiler, vals: Sequence[Val]) -> None:
    """Brings values to the device before a loop, so that this does not happen in each of its steps."""
    for v in vals:
        if not v.is_empty:
            c.storage(v)


# ---------------------------------------------------------------------------------------------- carries
class _Carries:
    """What a loop takes from step to step."""

    def __init__(self, c: Compiler, start: Sequence[Val]):
        self.c = c
        self.before: list[Storage | None] = []
        self.vals: list[Val] = []
        for v in start:
            if v.is_empty:
                self.before.append(None)
                self.vals.append(Val(v.aval))
                continue
            first = c.storage(v)
            storage = c.storage_of_type(v.aval)
            c.copy(first, storage)
            self.before.append(storage)
            self.vals.append(Val(v.aval, storage))

    def close(self, lists: Sequence[list[Any]], outs: Sequence[Val], scope: Scope) -> list[tuple[Storage, Storage]]:
        """Ends the body, whose last list is open: each carry's next value gets a memory of its own. Returns the pairs
        that change places."""
        c = self.c
        pairs: list[tuple[Storage, Storage]] = []
        taken: set[Storage] = set()
        for before, out in zip(self.before, outs, strict=True):
            if before is None:
                continue
            after = c.storage(out)
            root = after.root
            own = root.kind == TEMPORARY and root.first > scope.start and root not in taken
            if root is not before.root and not own:
                fresh = c.storage_of_type(out.aval)
                c.copy(after, fresh)
                after = fresh
            taken.add(after.root)
            pairs.append((before, after))
        c.position += 1
        for _, after in pairs:
            c.touch(after)  # the next step needs it
        body = [step for steps in lists for step in steps]
        join_copies(body)
        return join_carries(body, pairs)

    def results(self, swapped: Sequence[tuple[Storage, Storage]] = ()) -> list[Val]:
        """The carries after the loop, given the pairs that have changed places."""
        now = {before.root: after for before, after in swapped}
        return [
            Val(v.aval) if s is None else Val(v.aval, now.get(s.root, s))
            for v, s in zip(self.vals, self.before, strict=True)
        ]


def _last_through(c: Compiler, swaps: Sequence[tuple[Storage, Storage]], scope: Scope) -> None:
    for pair in swaps:
        for storage in pair:
            c.last_through(storage, scope)


# ---------------------------------------------------------------------------------------------- scan
@control("scan")
def _scan(c: Compiler, node: Node, ins: list[Val]) -> list[Val] | None:
    if not _have_place(c, node, ins):
        return None
    params = node.params
    body, length, k, n = params["asg"], params["length"], params["num_consts"], params["num_carry"]
    consts, start, xs = ins[:k], ins[k : k + n], ins[k + n :]
    if length == 0:
        return [*start, *(Val(t) for t in node.out_types[n:])]
    _ready(c, [*consts, *xs])
    carries = _Carries(c, start)
    wholes = [None if t.size == 0 else c.storage_of_type(t) for t in node.out_types[n:]]
    c.position += 1
    for whole in wholes:
        if whole is not None:
            c.touch(whole)
    scope = Scope(c.position)
    with c.new_list(scope) as steps:
        rows = [_row(c, v, t) for v, t in zip(xs, body.inputs[k + n :], strict=True)]
        outs = c.graph(body, [*consts, *carries.vals, *rows])
        for k, (out, whole) in enumerate(zip(outs[n:], wholes, strict=True), start=n):
            others = [*outs[:k], *outs[k + 1 :]]
            if whole is not None and not _written_directly(c, steps, out, whole, others, scope):
                c.store_row(c.storage(out), whole, out.aval)
        swaps = carries.close([steps], outs[:n], scope)
    end = c.close(scope)
    _last_through(c, swaps, scope)
    numbers = range(length - 1, -1, -1) if params["reverse"] else range(length)
    c.steps.append(Loop(numbers, steps, swaps, scope.start, end, is_on_device(steps), _reads_number(steps)))
    ys = [Val(t, whole) for t, whole in zip(node.out_types[n:], wholes, strict=True)]
    results = [*carries.results(swaps if length % 2 else ()), *ys]
    for v in results:
        if v.storage is not None:
            c.touch(v.storage)
    return results


def _row(c: Compiler, whole: Val, t: Any) -> Val:
    return Val(t) if t.size == 0 else Val(t, row=(c.storage(whole), t.size))


def _reads_number(steps: Sequence[Any]) -> bool:
    """Whether kernels of a loop's body (not of loops in it, which have numbers of their own) read the step's number."""
    for step in steps:
        if isinstance(step, Dispatch) and step.rows:
            return True
        if not isinstance(step, Loop) and any(_reads_number(held) for held in inner_lists(step)):
            return True
    return False


def _written_directly(
    c: Compiler, steps: Sequence[Any], out: Val, whole: Storage, others: Sequence[Val], scope: Scope
) -> bool:
    """Has the kernel that computes a row write it where it belongs, if nothing else uses it. Returns whether it does."""
    storage = out.storage
    if storage is None or any(v.storage is not None and v.storage.root is storage.root for v in others):
        return False
    root = storage.root
    if root.kind != TEMPORARY or root.first <= scope.start or root.first != root.last:
        return False
    found = [s for s in steps if isinstance(s, Dispatch) and any(x.root is root for x in s.storages)]
    if len(found) != 1 or found[0].is_copy or found[0].kind == "zeros":
        return False
    dispatch = found[0]
    places = [p for p, s in enumerate(dispatch.storages) if s.root is root]
    if len(places) != 1 or not dispatch.written[places[0]] or whole.nbytes > c.target.binding_bytes:
        return False
    (place,) = places
    dispatch.storages[place] = whole
    dispatch.sizes[place] = whole.nbytes
    dispatch.rows[place] = out.aval.size
    dispatch.in_place = tuple(pair for pair in dispatch.in_place if place not in pair)
    root.first = root.last = NEVER
    scope.outer.add(whole)
    return True


# ---------------------------------------------------------------------------------------------- guards
def _new_guard(c: Compiler, states: int) -> Guard:
    """A guard of so many lists. Its memories are used from here on."""
    guard = Guard(c.new_storage(16 * -(-states // 4)), c.new_storage(16), Storage(16, CONSTANT))
    c.storages.append(guard.table)
    c.guards.append(guard)
    c.position += 1
    c.touch(guard.state)
    c.touch(guard.grids)
    return guard


def _writer(c: Compiler, guard: Guard, reads: Sequence[Storage], source: Callable[[], str], name: str) -> Dispatch:
    """The kernel that decides for a guard, as a step."""
    storages = [*reads, guard.table, guard.state, guard.grids]
    written = [False] * (len(reads) + 1) + [True, True]
    step = Dispatch(storages, [], written, (1, 1, 1), make_source=source, name=name, kind="guard", writes_for=guard)
    return c.emit(step)


def _put_under(c: Compiler, guard: Guard, lists: Sequence[Sequence[Any]]) -> None:
    """The dispatches of these lists run if the guard says so; guards in them ask it, too."""
    for number, steps in enumerate(lists):
        for dispatch in dispatches(steps):
            inner = dispatch.writes_for
            if inner is not None and inner.parent is None:
                inner.parent = number
                place = len(dispatch.storages) - 3
                dispatch.storages.insert(place, guard.state)
                dispatch.written.insert(place, False)
            elif inner is None and dispatch.guard is None:
                dispatch.guard, dispatch.guard_entry = guard, len(guard.entries)
                guard.entries.append((number, *dispatch.grid))
    guard.grids.nbytes = -(-12 * max(1, len(guard.entries)) // 16) * 16
    guard.table.nbytes = 16 * max(1, len(guard.entries))
    c.position += 1
    c.touch(guard.state)
    c.touch(guard.grids)


def _forget(c: Compiler, guard: Guard) -> None:
    """The guard is not needed after all."""
    c.guards.remove(guard)
    for storage in (guard.state, guard.grids, guard.table):
        storage.first = storage.last = NEVER
        for scope in c.scopes:
            scope.outer.discard(storage)


# ---------------------------------------------------------------------------------------------- cond
@control("cond")
def _cond(c: Compiler, node: Node, ins: list[Val]) -> list[Val] | None:
    if not _have_place(c, node, ins):
        return None
    branches: Sequence[Asg] = node.params["branches"]
    index, operands = ins[0], ins[1:]
    _ready(c, operands)
    guard = writer = None
    if index.slot is None or c.machine.guards is None:  # else the host knows which branch it is
        chosen = c.storage(index)
    place = len(c.steps)
    if index.slot is None and c.machine.guards is not None:
        guard = _new_guard(c, len(branches))

        def source() -> str:
            return c.machine.guards.choice_source(guard.entries, len(branches), guard.parent)

        writer = _writer(c, guard, [chosen], source, "choose")
    results = [None if t.size == 0 else c.storage_of_type(t) for t in node.out_types]
    c.position += 1
    for storage in results:
        if storage is not None:
            c.touch(storage)
    lists = []
    for branch in branches:
        with c.new_list(branch=True) as steps:
            outs = c.graph(branch, operands)
            for out, storage in zip(outs, results, strict=True):
                if storage is not None:
                    c.copy(c.storage(out), storage)
            join_copies(steps)
        lists.append(steps)
    if c.machine.guards is None:
        c.position += 1
        c.touch(chosen)
        c.steps.append(Branch(NEVER, lists, chosen, all(map(is_on_device, lists))))
    elif guard is not None and all(is_on_device(steps) for steps in lists):
        _put_under(c, guard, lists)
        for steps in lists:
            c.steps += steps
    else:
        if guard is not None:
            c.steps.remove(writer)
            _forget(c, guard)
        with c.new_list() as before:
            slot = c.slot(index)
        c.steps[place:place] = before  # read before the branches change anything
        c.steps.append(Branch(slot, lists))
    return [Val(t, s) for t, s in zip(node.out_types, results, strict=True)]


# ---------------------------------------------------------------------------------------------- while
@control("while")
def _while(c: Compiler, node: Node, ins: list[Val]) -> list[Val] | None:
    if not _have_place(c, node, ins):
        return None
    params = node.params
    k, n = params["num_cond_consts"], params["num_cond_consts"] + params["num_body_consts"]
    test_consts, body_consts, start = ins[:k], ins[k:n], ins[n:]
    _ready(c, [*test_consts, *body_consts])
    carries = _Carries(c, start)
    if c.machine.guards is None:
        return _while_here(c, params, carries, test_consts, body_consts)
    guard = _new_guard(c, 2)
    with c.new_list() as first:
        _writer(c, guard, [], lambda: c.machine.guards.loop_start_source(guard.entries), "start loop")
    c.position += 1
    scope = Scope(c.position)
    with c.new_list(scope):
        with c.new_list() as test:
            (holds,) = c.graph(params["cond"], [*test_consts, *carries.vals])
            condition = c.storage(holds)
            _writer(c, guard, [condition], lambda: c.machine.guards.loop_step_source(guard.entries), "step loop")
        with c.new_list() as steps:
            outs = c.graph(params["body"], [*body_consts, *carries.vals])
            swaps = carries.close([test, steps], outs, scope)
    on_device = is_on_device(test) and is_on_device(steps)
    slot = -1
    if on_device:
        step_writer = test.pop()
        _put_under(c, guard, [[*test, *steps]])
        test.append(step_writer)
    else:
        _forget(c, guard)
        test.pop()
        with c.new_list(scope) as download:
            slot = c.slot(Val(holds.aval, condition, holds.slot))
        test += download
    end = c.close(scope)
    _last_through(c, swaps, scope)
    with c.new_list() as settle:
        for before, after in swaps:
            c.copy(after, before)
            settle[-1].is_copy = False  # it must stay: whether it is needed is known when the loop has run
    c.steps.append(
        While(
            guard if on_device else None, first if on_device else [], test, slot, steps, settle, swaps, scope.start, end
        )
    )
    results = carries.results()
    for v in results:
        if v.storage is not None:
            c.touch(v.storage)
    return results


def _while_here(
    c: Compiler, params: Any, carries: _Carries, test_consts: Sequence[Val], body_consts: Sequence[Val]
) -> list[Val]:
    """The loop of a machine that reads the condition itself."""
    c.position += 1
    scope = Scope(c.position)
    with c.new_list(scope):
        with c.new_list() as test:
            (holds,) = c.graph(params["cond"], [*test_consts, *carries.vals])
            condition = c.storage(holds)
        with c.new_list() as steps:
            outs = c.graph(params["body"], [*body_consts, *carries.vals])
            swaps = carries.close([test, steps], outs, scope)
            for before, after in swaps:
                c.copy(after, before)
                steps[-1].is_copy = False  # it stays: both are needed in the next turn
    c.touch(condition)
    end = c.close(scope)
    _last_through(c, swaps, scope)
    on_device = is_on_device(test) and is_on_device(steps)
    step = While(None, [], test, NEVER, steps, [], [], scope.start, end, condition, on_device)
    c.steps.append(step)
    results = carries.results()
    for v in results:
        if v.storage is not None:
            c.touch(v.storage)
    return results
