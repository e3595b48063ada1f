"""From a fused graph to steps: each node by its plan, loops and branches around their bodies' steps, the rest on the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from asgfn.backend import get_backend
from asgfn.graph.asg import Asg, Node
from asgfn.graph.types import ArrayType
from asgfn.transforms.fuse import fuse_graph, unfuse
from asgfn.transforms.region_roles import ALIASES
from asgfn.transforms.region_rules import FusionLimits
from asgfn.transforms.simplify import INLINED
from backends.kernels import ir
from backends.kernels.elements import Unsupported
from backends.kernels.in_place import in_place_pairs
from backends.kernels.lowering import Argument, Plan, lower
from backends.kernels.target import Target
from backends.wgpu import plumbing
from backends.wgpu.buffers import padded, storage_bytes
from backends.wgpu.steps import CONSTANT, INPUT, Check, Dispatch, Download, Guard, Host, Scope, Storage, Upload, Val

_ALIASES = (*ALIASES, "expand_dims")
_plans: dict[tuple, Plan | None] = {}


def cached_plan(node: Node, in_types: Sequence[ArrayType], target: Target) -> Plan | None:
    """The plan of a node; equal nodes (the layers of a network) share it."""
    key = (node.primitive, node.params, tuple(in_types), node.out_types, target)
    try:
        if key in _plans:
            return _plans[key]
    except TypeError:  # a parameter that is not hashable
        return None
    try:
        plan = lower(node, in_types, target)
    except Unsupported:
        plan = None
    if len(_plans) > 4096:
        _plans.clear()
    _plans[key] = plan
    return plan


class Compiler:
    """Compiles one program.

    Attributes:
        target: the device's limits.
        steps: the list that is being written.
        position: of the last step, counted over all lists.
        constants: arrays in the device's representation, by number.
        slots: how many host arrays there are.
        fixed: host arrays that never change, by slot.
        debug: whether each node's results are checked.
    """

    def __init__(self, target: Target, debug: bool = False):
        self.target, self.debug = target, debug
        self.types = target.types
        self.steps: list[Any] = []
        self.position = 0
        self.scopes: list[Scope] = []
        self.since = 0
        self.constants: list[np.ndarray] = []
        self.constant_storages: dict[tuple, Storage] = {}
        self.slots = 0
        self.fixed: dict[int, np.ndarray] = {}
        self.storages: list[Storage] = []
        self.guards: list[Guard] = []
        self._found: list[tuple[Val, str]] = []  # places of values that hold inside a list only
        self._asg_scope = ""

    # ------------------------------------------------------------------ memory
    def holds(self, t: ArrayType) -> bool:
        """Whether arrays of a type can be on the device."""
        return self.types.holds(t.dtype)

    def new_storage(self, nbytes: int) -> Storage:
        storage = Storage(nbytes)
        self.storages.append(storage)
        return storage

    def storage_of_type(self, t: ArrayType) -> Storage:
        return self.new_storage(storage_bytes(t, self.types))

    def new_slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def constant(self, stored: np.ndarray) -> Storage:
        """Memory that has these bytes."""
        stored = np.ascontiguousarray(stored)
        key = (stored.dtype.str, stored.tobytes() if stored.nbytes <= _COMPARED else id(stored))
        found = self.constant_storages.get(key)
        if found is None:
            found = Storage(padded(stored.nbytes), CONSTANT, len(self.constants))
            self.constants.append(stored)
            self.constant_storages[key] = found
            self.storages.append(found)
        return found

    def touch(self, storage: Storage) -> None:
        """The current step uses a memory."""
        s = storage.root
        if s.first == -1:
            s.first, s.scopes = self.position, tuple(self.scopes)
        s.last = max(s.last, self.position)
        for scope in self.scopes:
            if scope not in s.scopes:
                scope.outer.add(s)  # it is needed in every turn
                break

    # ------------------------------------------------------------------ places of values
    def storage(self, val: Val) -> Storage:
        """The memory of a value on the device; steps bring it there if need be."""
        if val.storage is not None:
            return val.storage
        if val.is_empty:
            return self.constant(np.zeros(4, np.uint32))  # something to bind; nothing in it is read
        storage = self.storage_of_type(val.aval)
        if val.row is not None:
            self.copy_row(val, storage)
        else:
            assert val.slot is not None
            self.position += 1
            self.steps.append(Upload(val.slot, storage, val.aval, self.position))
            self.touch(storage)
        self._place(val, "storage", storage)
        return storage

    def slot(self, val: Val) -> int:
        """The number of the host array of a value; steps bring it there if need be."""
        if val.slot is not None:
            return val.slot
        slot = self.new_slot()
        if val.is_empty:
            self.fixed[slot] = np.empty(val.aval.shape, val.aval.dtype)
        else:
            storage = self.storage(val)
            self.position += 1
            self.steps.append(Download(storage, slot, val.aval, self.position))
            self.touch(storage)
        self._place(val, "slot", slot)
        return slot

    def _place(self, val: Val, where: str, what: Any) -> None:
        setattr(val, where, what)
        self._found.append((val, where))

    def fixed_val(self, value: np.ndarray, t: ArrayType) -> Val:
        """A value that is known now."""
        slot = self.new_slot()
        self.fixed[slot] = np.asarray(value)
        on_device = self.holds(t) and t.size
        return Val(t, self.constant(_stored(value, t, self.types)) if on_device else None, slot)

    # ------------------------------------------------------------------ lists
    @contextmanager
    def new_list(self, scope: Scope | None = None, branch: bool = False) -> Iterator[list[Any]]:
        """Steps of the block go to a list of their own. What they bring to a place is only there for the block."""
        outer, self.steps = self.steps, []
        before, self._found = self._found, []
        since = self.since
        if scope is not None:
            self.scopes.append(scope)
        if branch or scope is not None:
            self.since = self.position + 1
        try:
            yield self.steps
        finally:
            self.steps = outer
            for val, where in self._found:
                setattr(val, where, None)
            self._found = before
            self.since = since
            if scope is not None:
                self.scopes.pop()

    def close(self, scope: Scope) -> int:
        """Ends a loop: what it needs in each turn lasts until here. Returns the position."""
        self.position += 1
        for s in scope.outer:
            root = s.root
            root.last = max(root.last, self.position)
            for outer in self.scopes:
                if outer not in root.scopes:
                    outer.outer.add(root)
                    break
        return self.position

    def last_through(self, storage: Storage, scope: Scope) -> None:
        """A memory lasts as long as a loop that it was made in."""
        root = storage.root
        root.first, root.last = min(root.first, scope.start), max(root.last, self.position)
        root.scopes = tuple(self.scopes)

    # ------------------------------------------------------------------ dispatches
    def emit(self, dispatch: Dispatch) -> Dispatch:
        self.position += 1
        dispatch.position = self.position
        dispatch.since = self.since
        for storage in dispatch.storages:
            self.touch(storage)
        self.steps.append(dispatch)
        return dispatch

    def copy(self, source: Storage, target: Storage) -> None:
        """The target becomes a copy of the source, or the same memory if nothing can tell them apart."""
        kernel = plumbing.copy_memory(target.nbytes, self.target)
        sizes = [target.nbytes, target.nbytes]
        self.emit(
            Dispatch(
                [source, target], sizes, [False, True], kernel.grid, kernel, is_copy=True, name="copy", kind="copy"
            )
        )

    def copy_row(self, val: Val, target: Storage) -> None:
        """The target becomes a copy of a row."""
        assert val.row is not None
        whole, count = val.row
        kernel = plumbing.copy_kernel(self.types.storage(val.aval.dtype), count, self.target)
        sizes = [whole.nbytes, target.nbytes]
        self.emit(
            Dispatch(
                [whole, target],
                sizes,
                [False, True],
                kernel.grid,
                kernel,
                rows={0: count},
                name="read row",
                kind="copy",
            )
        )

    def store_row(self, source: Storage, whole: Storage, t: ArrayType) -> None:
        """A row of a larger array becomes a copy of the source."""
        kernel = plumbing.copy_kernel(self.types.storage(t.dtype), t.size, self.target)
        sizes = [source.nbytes, whole.nbytes]
        self.emit(
            Dispatch(
                [source, whole],
                sizes,
                [False, True],
                kernel.grid,
                kernel,
                rows={1: t.size},
                name="write row",
                kind="copy",
            )
        )

    # ------------------------------------------------------------------ graphs
    def graph(self, asg: Asg, inputs: Sequence[Val]) -> list[Val]:
        """Steps that compute a graph. Returns its outputs."""
        env: list[Val] = list(inputs)
        env += [self.fixed_val(c, t) for c, t in zip(asg.constants, asg.constant_types, strict=True)]
        for node in asg.nodes:
            env += self.node(node, [env[i] for i in node.inputs])
        return [env[i] for i in asg.outputs]

    def node(self, node: Node, ins: list[Val]) -> list[Val]:
        """Steps that compute a node."""
        outer = self._asg_scope
        if node.scope:
            node = node._replace(scope="/".join(filter(None, (outer, node.scope))))
            self._asg_scope = node.scope
        try:
            outs = self._node(node, ins)
        finally:
            self._asg_scope = outer
        if self.debug and (node.primitive.name == "fused" or not node.primitive.holds_graphs):
            self._check(node, ins, outs)
        return outs

    def _node(self, node: Node, ins: list[Val]) -> list[Val]:
        from backends.wgpu.control import CONTROL

        prim, types = node.primitive, node.out_types
        if not prim.is_effectful(node.params) and all(t.size == 0 for t in types):
            return [Val(t) for t in types]
        if prim.name in INLINED:
            return self.graph(node.params["asg"], ins)
        if prim.name == "custom_linear_solve":
            return self.graph(node.params["solve"], ins)
        if prim.name in CONTROL:
            made = CONTROL[prim.name](self, node, ins)
            if made is not None:
                return made
            unknown = [t for t in (*(v.aval for v in ins), *types) if t.size and not self.holds(t)]
            return self.host(node, ins, self._why(node, ins, unknown))
        if prim.name in _ALIASES:
            return [self._alias(v, t) for v, t in zip(ins, types, strict=True)]
        if any(v.is_empty for v in ins):
            simpler = self._with_empty(node, ins)
            if simpler is not None:
                return simpler
        unknown = [t for t in (*(v.aval for v in ins), *types) if not self.holds(t)]
        if not unknown and not prim.effect:
            plan = cached_plan(node, [v.aval for v in ins], self.target)
            if plan is not None and self._fits(plan, node, ins):
                return self._planned(plan, node, ins)
            if plan is not None and prim.name == "fused":
                return self.graph(self._smaller_regions(node.params["asg"]), ins)
        if prim.name == "fused":  # its operations one by one, so that only those that must run on the host
            return self.graph(node.params["asg"], ins)
        if prim.name == "concatenate" and not unknown and len(ins) > 2:
            return self._concatenate_halves(node, ins)
        return self.host(node, ins, self._why(node, ins, unknown))

    def _smaller_regions(self, asg: Asg) -> Asg:
        """A region that is too large for the device, in parts."""
        most = len(asg.inputs) + len(asg.outputs)
        while most > 4:
            most //= 2
            parts = fuse_graph(unfuse(asg), FusionLimits(max_operands=most))
            if len(parts.nodes) > 1:
                return parts
        return unfuse(asg)

    def _why(self, node: Node, ins: Sequence[Val], unknown: Sequence[ArrayType]) -> str:
        if node.primitive.category == "callback":
            return "it calls Python"
        if unknown:
            return f"the GPU has no {unknown[0].dtype.name}"
        largest = max((v.aval for v in (*ins, *map(Val, node.out_types))), key=lambda t: t.nbytes)
        if storage_bytes(largest, self.types) > self.target.binding_bytes:
            return f"{largest} is larger than the {self.target.binding_bytes:,} bytes that a kernel can see at once"
        return "there is no kernel for it"

    def _alias(self, val: Val, t: ArrayType) -> Val:
        if val.storage is None and val.row is None and val.slot is not None:
            return self._host_steps([val], [t], lambda values: [values[0].reshape(t.shape)])[0]
        return Val(t, val.storage, row=val.row)

    def _with_empty(self, node: Node, ins: list[Val]) -> list[Val] | None:
        """A node some of whose operands have no elements, as a simpler one; None if it is as good as any."""
        name, out = node.primitive.name, node.out_types[0]
        full = [v for v in ins if not v.is_empty]
        if name == "concatenate":
            return [full[0]] if len(full) == 1 else self.node(node, full)
        if ins[0].aval == out and (name == "dynamic_update_slice" or name.startswith("scatter")):
            return [ins[0]]
        if not full and not node.primitive.effect:  # sums of nothing and the like
            kernel = get_backend("numpy").kernel(node.primitive, [v.aval for v in ins], node.out_types, node.params)
            values = kernel([np.empty(v.aval.shape, v.aval.dtype) for v in ins])
            return [self.fixed_val(x, t) for x, t in zip(values, node.out_types, strict=True)]
        return None

    def _concatenate_halves(self, node: Node, ins: list[Val]) -> list[Val]:
        """A concatenation of more arrays than a kernel takes, in two parts that are concatenated."""
        axis, out = node.params["dimension"], node.out_types[0]
        parts = []
        for half in (ins[: len(ins) // 2], ins[len(ins) // 2 :]):
            shape = [*out.shape]
            shape[axis] = sum(v.aval.shape[axis] for v in half)
            part = node._replace(out_types=(out.update(shape=tuple(shape)),))
            parts.append(half[0] if len(half) == 1 else self._node(part, half)[0])
        return self._node(node, parts)

    # ------------------------------------------------------------------ plans
    def _fits(self, plan: Plan, node: Node, ins: Sequence[Val]) -> bool:
        """Whether the device can run a plan."""
        types = [*(v.aval for v in ins), *node.out_types]
        sizes = [storage_bytes(t, self.types) for t in types]
        sizes += [v.row[0].nbytes for v in ins if v.row is not None]
        sizes += [padded(_SIZES[d] * n) for d, n in plan.temporaries]
        if max(sizes, default=0) > self.target.binding_bytes:
            return False
        return all(len(stage.kernel.memories) <= self.target.buffers for stage in plan.stages)

    def _planned(self, plan: Plan, node: Node, ins: list[Val]) -> list[Val]:
        outs = [Val(t, None if t.size == 0 else self.storage_of_type(t)) for t in node.out_types]
        copied = {i for i, _ in plan.copies}
        rows = {i: v.row for i, v in enumerate(ins) if v.storage is None and v.row is not None and i not in copied}
        memories = {
            Argument("input", i): rows[i][0] if i in rows else self.storage(v)  # type: ignore[index]
            for i, v in enumerate(ins)
        }
        memories |= {Argument("output", k): v.storage or self.new_storage(padded(4)) for k, v in enumerate(outs)}
        memories |= {Argument("constant", k): self.constant(c) for k, c in enumerate(plan.constants)}
        memories |= {
            Argument("temporary", k): self.new_storage(padded(_SIZES[d] * n))
            for k, (d, n) in enumerate(plan.temporaries)
        }
        for i, k in plan.copies:
            self.copy(memories[Argument("input", i)], memories[Argument("output", k)])
        for argument in plan.zeros:
            target = memories[argument]
            kernel = plumbing.zero_memory(target.nbytes, self.target)
            self.emit(Dispatch([target], [target.nbytes], [True], kernel.grid, kernel, name="zeros", kind="zeros"))
        kind = node.params["kind"] if node.primitive.name == "fused" else node.primitive.name
        for stage in plan.stages:
            storages = [memories[a] for a in stage.arguments]
            self.emit(
                Dispatch(
                    storages,
                    [s.nbytes for s in storages],
                    [m.written for m in stage.kernel.memories],
                    stage.kernel.grid,
                    stage.kernel,
                    rows={
                        p: rows[a.number][1]
                        for p, a in enumerate(stage.arguments)
                        if a.kind == "input" and a.number in rows
                    },  # type: ignore[index]
                    in_place=in_place_pairs(stage.kernel),
                    name=stage.kernel.name or kind,
                    kind=kind,
                    scope=node.scope,
                    place=node.source,
                )
            )
        return outs

    # ------------------------------------------------------------------ the host
    def host(self, node: Node, ins: list[Val], why: str) -> list[Val]:
        """A node that the host computes."""
        kernel = get_backend("numpy").kernel(node.primitive, [v.aval for v in ins], node.out_types, node.params)
        outs = self._host_steps(ins, node.out_types, kernel)
        step = self.steps[-1]
        step.name, step.why, step.scope, step.place = node.primitive.name, why, node.scope, node.source
        step.is_wanted = node.primitive.category == "callback"
        return outs

    def _host_steps(self, ins: Sequence[Val], out_types: Sequence[ArrayType], function: Any) -> list[Val]:
        inputs = [self.slot(v) for v in ins]
        outputs = [self.new_slot() for _ in out_types]
        self.position += 1
        self.steps.append(Host(function, inputs, outputs))
        return [Val(t, slot=slot) for t, slot in zip(out_types, outputs, strict=True)]

    def _check(self, node: Node, ins: Sequence[Val], outs: Sequence[Val]) -> None:
        floats = [v for v in outs if v.aval.dtype.kind in "fcV" and v.aval.size]
        if not floats:
            return
        hunt = None
        if node.primitive.name == "fused":
            hunt = node.params["asg"], [self.slot(v) for v in ins]
        slots = [self.slot(v) for v in floats]
        self.position += 1
        self.steps.append(Check(slots, node.primitive, node.source, node.scope, hunt))

    # ------------------------------------------------------------------ inputs
    def input(self, number: int, t: ArrayType) -> Val:
        """An argument of the program."""
        if not self.holds(t) or t.size == 0:
            return Val(t, slot=self.new_slot())
        storage = Storage(storage_bytes(t, self.types), INPUT, number)
        self.storages.append(storage)
        return Val(t, storage)


_SIZES = ir.SIZES
_COMPARED = 4096  # constants of at most so many bytes are looked for among those that a program has


def _stored(value: np.ndarray, t: ArrayType, types: Any) -> np.ndarray:
    return np.ascontiguousarray(value, types.numpy_storage(t.dtype))
