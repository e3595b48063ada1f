"""From a fused graph to steps: each node by its plan, loops and branches around their bodies' steps, the rest on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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
from backends.programs.machine import Machine
from backends.programs.sizes import padded, storage_bytes
from backends.programs.steps import Check, Dispatch, Host, NodeCall, Reshape, Storage, Val
from backends.programs.writer import Writer

# what writes the steps of a node: (compiler, node, inputs) -> outputs, or None if the host has to
Maker = Callable[[Any, Node, list[Val]], list[Val] | None]
Planner = Callable[[Node, Sequence[ArrayType], Target], Plan | None]
_ALIASES = (*ALIASES, "expand_dims")
# nodes that are never kernels as they are
UNPLANNED = frozenset((*_ALIASES, *INLINED, "custom_linear_solve"))
_SIZES = ir.SIZES
_plans: dict[tuple, Plan | None] = {}


def cached_plan(node: Node, in_types: Sequence[ArrayType], target: Target) -> Plan | None:
    """The plan of a node; equal nodes (the layers of a network) share it."""
    # what has been measured in the meantime may lead to another plan
    key = (node.primitive, node.params, tuple(in_types), node.out_types, target, len(target.measured))
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


class Place(NamedTuple):
    """Where an array is: some bytes of a memory."""

    storage: Storage
    start: int
    nbytes: int


def whole(storage: Storage) -> Place:
    return Place(storage, 0, storage.nbytes)


class Compiler(Writer):
    """Compiles one program.

    Attributes:
        machine: what is compiled for.
        control: what compiles loops and branches, by the names of their primitives.
        debug: whether each node's results are checked.
        plan_of: gives the plan of a node, or None.
    """

    def __init__(
        self,
        machine: Machine,
        control: Mapping[str, Maker],
        debug: bool = False,
        plan_of: Planner = cached_plan,
    ):
        super().__init__(machine.target)
        self.machine, self.control, self.debug, self.plan_of = machine, control, debug, plan_of
        self._asg_scope = ""

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
        prim, types = node.primitive, node.out_types
        if not prim.is_effectful(node.params) and all(t.size == 0 for t in types):
            return [Val(t) for t in types]
        if prim.name in INLINED:
            return self.graph(node.params["asg"], ins)
        if prim.name == "custom_linear_solve":
            return self.graph(node.params["solve"], ins)
        if prim.name in self.control:
            made = self.control[prim.name](self, node, ins)
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
            if self._is_large(node, ins):
                made = self.machine.in_parts(self, node, ins)
                if made is not None:
                    return made
                plan = None
            else:
                plan = self.plan_of(node, [v.aval for v in ins], self.target)
            if plan is not None and self.fits(plan):
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
            return f"{self.machine.what} has no {unknown[0].dtype.name}"
        largest = max((v.aval for v in (*ins, *map(Val, node.out_types))), key=lambda t: t.nbytes)
        if storage_bytes(largest, self.target) > self.target.binding_bytes:
            return (
                f"{largest} is larger than the {self.target.binding_bytes:,} bytes that a kernel can see at once, "
                "and it is not computed in parts along its first axis"
            )
        return "there is no kernel for it"

    def _alias(self, val: Val, t: ArrayType) -> Val:
        if val.storage is None and val.row is None and val.slot is not None:
            return self._host_steps([val], [t], Reshape(t.shape))[0]
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
    def _is_large(self, node: Node, ins: Sequence[Val]) -> bool:
        """Whether there are arrays that are larger than what a kernel can see."""
        sizes = [storage_bytes(t, self.target) for t in (*(v.aval for v in ins), *node.out_types)]
        sizes += [v.row[0].nbytes for v in ins if v.row is not None]
        return max(sizes, default=0) > self.target.binding_bytes

    def fits(self, plan: Plan) -> bool:
        """Whether the device can run a plan for arrays that it can see."""
        if any(padded(_SIZES[d] * n, self.target) > self.target.binding_bytes for d, n in plan.temporaries):
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
        memories |= {
            Argument("output", k): v.storage or self.new_storage(padded(4, self.target)) for k, v in enumerate(outs)
        }
        for i, k in plan.copies:
            self.copy(memories[Argument("input", i)], memories[Argument("output", k)])
        places = {a: whole(s) for a, s in memories.items()}
        self.dispatch(plan, node, places, {i: row[1] for i, row in rows.items() if row is not None})
        return outs

    def dispatch(
        self, plan: Plan, node: Node, places: dict[Argument, Place], rows: Mapping[int, int], in_place: bool = True
    ) -> None:
        """Writes the steps of a plan.

        Arguments:
            places: of the node's operands and results.
            rows: elements of a row, by the number of an operand that is one of a larger array.
            in_place: whether results may take the place of operands.
        """
        places |= {Argument("constant", k): whole(self.constant(c)) for k, c in enumerate(plan.constants)}
        places |= {
            Argument("temporary", k): whole(self.new_storage(padded(_SIZES[d] * n, self.target)))
            for k, (d, n) in enumerate(plan.temporaries)
        }
        for argument in plan.zeros:
            target, start, nbytes = places[argument]
            self.zeros(target, start, nbytes)
        kind = node.params["kind"] if node.primitive.name == "fused" else node.primitive.name
        for stage in plan.stages:
            ranges = [places[a] for a in stage.arguments]
            self.machine.begin(stage.kernel, [p.nbytes for p in ranges], bool(self.scopes))
            self.emit(
                Dispatch(
                    [p.storage for p in ranges],
                    [p.nbytes for p in ranges],
                    [m.written for m in stage.kernel.memories],
                    stage.kernel.grid,
                    stage.kernel,
                    rows={
                        k: rows[a.number]
                        for k, a in enumerate(stage.arguments)
                        if a.kind == "input" and a.number in rows
                    },
                    offsets={k: p.start for k, p in enumerate(ranges) if p.start},
                    in_place=in_place_pairs(stage.kernel) if in_place else (),
                    name=stage.kernel.name or kind,
                    kind=kind,
                    scope=node.scope,
                    place=node.source,
                )
            )

    # ------------------------------------------------------------------ the host
    def host(self, node: Node, ins: list[Val], why: str) -> list[Val]:
        """A node that the host computes."""
        call = NodeCall(node.primitive, tuple(v.aval for v in ins), node.out_types, node.params)
        call.kernel  # noqa: B018  # raises now if there is none
        outs = self._host_steps(ins, node.out_types, call)
        step = self.steps[-1]
        step.name, step.why, step.scope, step.place = node.primitive.name, why, node.scope, node.source
        step.is_wanted = node.primitive.category == "callback"
        return outs

    def _host_steps(
        self, ins: Sequence[Val], out_types: Sequence[ArrayType], function: NodeCall | Reshape
    ) -> list[Val]:
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
