"""Plans a graph once, then runs it many times.

A plan is a flat list of steps over slots. Values that only live inside the program are computed into memory that the
program keeps between calls (a workspace); which values may share memory follows from their lifetimes. Only steps that
are real ufuncs write into given memory (`out=`), so a value's memory is known exactly or not managed at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn.config import config
from asgfn.graph.asg import Asg
from asgfn.graph.caching import cached_by_graph
from asgfn.graph.types import ArrayType
from asgfn.tracing.trace import check_finite
from asgfn.transforms.simplify import simplify
from backends.numpy.registry import find_kernel

# smaller values are left to NumPy's own allocator, which is faster for them than any bookkeeping
SMALLEST_MANAGED = 2048


def fold(
    prim: Any, in_types: Any, out_types: Any, params: Any, values: Sequence[np.ndarray]
) -> list[np.ndarray] | None:
    """Computes a node whose operands are constants, as `simplify` asks for it."""
    function = find_kernel(prim.name, in_types, out_types, params)
    with np.errstate(all="ignore"):
        outs = function(*values)
    return [np.asarray(v) for v in (outs if prim.multiple_results else (outs,))]


class Step:
    """One operation of a plan."""

    __slots__ = ("function", "index", "inputs", "output", "slot")

    def __init__(
        self, function: Callable, inputs: tuple[int, ...], output: int | tuple[int, ...], slot: int, index: int
    ):
        self.function = function
        self.inputs = inputs
        self.output = output  # value id, or ids when there are several results
        self.slot = slot  # memory to write into: -1 for none
        self.index = index  # of the node


class _MemoryPlan:
    """Decides which values are written into which memory.

    Every value has roots: the managed memories that it may share elements with. A ufunc result is its own root; any
    other result may be a view, so it inherits the roots of its operands. A memory is free again when no value that has
    it among its roots is needed any more.
    """

    def __init__(self, asg: Asg, functions: Sequence[Callable], donated: Sequence[bool]):
        types = asg.value_types
        n_fixed = len(asg.inputs) + len(asg.constants)
        last = [-1] * len(types)
        for index, node in enumerate(asg.nodes):
            for i in node.inputs:
                last[i] = index
        end = len(asg.nodes)
        for i in asg.outputs:
            last[i] = end

        roots: list[frozenset[int]] = [frozenset()] * n_fixed
        for i, given in enumerate(donated):
            if given:
                roots[i] = frozenset((i,))
        managed: list[int] = []
        for node, first, function in zip(asg.nodes, asg.first_outputs, functions, strict=True):
            t = node.out_types[0] if len(node.out_types) == 1 else None
            if t is not None and isinstance(function, np.ufunc) and t.nbytes >= SMALLEST_MANAGED:
                roots.append(frozenset((first,)))
                managed.append(first)
            else:
                inherited = frozenset().union(*(roots[i] for i in node.inputs))
                roots.extend([inherited] * len(node.out_types))
        alive_until = [-1] * len(types)
        for i, rs in enumerate(roots):
            for r in rs:
                alive_until[r] = max(alive_until[r], last[i])

        # slots: workspace memories by size, each with the index after which it is free; donated inputs are slots too
        self.sizes: list[int] = []
        self.slot_of: dict[int, int] = {}
        donated_free: dict[int, list[tuple[int, int]]] = {}
        for i, given in enumerate(donated):
            if given and types[i].nbytes:
                donated_free.setdefault(types[i].nbytes, []).append((alive_until[i], i))
        by_size: dict[int, list[int]] = {}
        pending: dict[int, list[int]] = {}  # node index -> slots that become free there
        self.into_input: dict[int, int] = {}
        for v in managed:
            index = asg.producers[v]
            for past in [k for k in pending if k <= index]:
                for slot in pending.pop(past):
                    by_size.setdefault(self.sizes[slot], []).append(slot)
            size = types[v].nbytes
            if alive_until[v] >= end:  # reaches an output: needs memory of its own, or that of a donated input
                candidates = donated_free.get(size, [])
                for k, (free, i) in enumerate(candidates):
                    if free <= index:
                        self.into_input[v] = i
                        candidates.pop(k)
                        break
                continue
            stock = by_size.get(size)
            if stock:
                slot = stock.pop()
            else:
                slot = len(self.sizes)
                self.sizes.append(size)
            self.slot_of[v] = slot
            # a ufunc may write over an operand that dies with it (NumPy copies where overlap would matter)
            pending.setdefault(max(alive_until[v], index + 1), []).append(slot)


class Program:
    """An executable: `program(buffers) -> outputs`, all NumPy arrays."""

    def __init__(self, asg: Asg, donated: Sequence[bool] = ()):
        asg = simplify(asg, fold)
        self.asg = asg
        types = asg.value_types
        functions = [
            find_kernel(node.primitive.name, [types[i] for i in node.inputs], node.out_types, node.params)
            for node in asg.nodes
        ]
        memory = _MemoryPlan(asg, functions, donated)
        self.workspace_sizes = memory.sizes
        self.views: list[tuple[int, Any, tuple]] = []  # (slot, dtype, shape) of each distinct use of the workspace
        view_index: dict[tuple, int] = {}
        self.steps: list[Step] = []
        self.dead = asg.dead_after
        for index, (node, first, function) in enumerate(zip(asg.nodes, asg.first_outputs, functions, strict=True)):
            several = node.primitive.multiple_results
            output: Any = tuple(range(first, first + len(node.out_types))) if several else first
            slot = -1
            if first in memory.slot_of and not several:
                t = types[first]
                key = (memory.slot_of[first], t.dtype, t.shape)
                if key not in view_index:
                    view_index[key] = len(self.views)
                    self.views.append(key)
                slot = view_index[key]
            elif first in memory.into_input:
                slot = -2 - memory.into_input[first]
            self.steps.append(Step(function, node.inputs, output, slot, index))
        self.code: list[tuple[Any, ...]] = [
            (s.function, s.inputs, s.output, s.slot, d) for s, d in zip(self.steps, self.dead, strict=True)
        ]
        self.constants = list(asg.constants)
        self.n_values = len(types)
        self.outputs = asg.outputs
        self._workspaces: list[list[np.ndarray]] = []

    def _new_workspace(self) -> list[np.ndarray]:
        raw = [np.empty(size, np.uint8) for size in self.workspace_sizes]
        return [raw[slot].view(dtype).reshape(shape) for slot, dtype, shape in self.views]

    def __call__(self, buffers: Sequence[np.ndarray]) -> list[np.ndarray]:
        if config.debug_nans or config.debug_infs:
            return self._checked(buffers)
        env: list[Any] = [*buffers, *self.constants]
        env.extend([None] * (self.n_values - len(env)))
        # calls may overlap (threads, callbacks): each takes a workspace of its own
        try:
            workspace = self._workspaces.pop()
        except IndexError:
            workspace = self._new_workspace()
        with np.errstate(all="ignore"):
            for function, inputs, output, slot, dead in self.code:
                args = [env[i] for i in inputs]
                if slot == -1:
                    result = function(*args)
                    if output.__class__ is int:
                        env[output] = result
                    else:
                        for i, value in zip(output, result, strict=True):
                            env[i] = value
                elif slot >= 0:
                    env[output] = function(*args, out=workspace[slot])
                else:
                    env[output] = self._into_donated(function, args, buffers[-2 - slot], output)
                for i in dead:
                    env[i] = None
        self._workspaces.append(workspace)
        return [env[i] for i in self.outputs]

    def _into_donated(self, function: Callable, args: list, buffer: np.ndarray, output: int) -> np.ndarray:
        t = self.asg.value_types[output]
        base = buffer
        if not (base.flags.c_contiguous and (base.flags.owndata or base.base is None) and base.nbytes == t.nbytes):
            return function(*args)
        try:
            base.flags.writeable = True
        except ValueError:  # memory that belongs to somebody else
            return function(*args)
        if base.dtype != t.dtype or base.shape != t.shape:
            base = base.view(t.dtype).reshape(t.shape)
        return function(*args, out=base)

    def _checked(self, buffers: Sequence[np.ndarray]) -> list[np.ndarray]:
        env: list[Any] = [*buffers, *self.constants]
        env.extend([None] * (self.n_values - len(env)))
        with np.errstate(all="ignore"):
            for step in self.steps:
                node = self.asg.nodes[step.index]
                result = step.function(*[env[i] for i in step.inputs])
                outs = result if node.primitive.multiple_results else (result,)
                ids = step.output if isinstance(step.output, tuple) else (step.output,)
                for i, value in zip(ids, outs, strict=True):
                    env[i] = value
                if not node.primitive.holds_graphs:  # these have checked inside
                    check_finite(node.primitive, [np.asarray(v) for v in outs], node.source, node.scope)
        return [env[i] for i in self.outputs]

    # ------------------------------------------------------------------ what people can ask
    def as_text(self) -> str:
        """The plan: one line a step, with the memory that it writes to."""
        lines = [f"numpy program {self.asg.name}: {len(self.steps)} steps, workspace {sum(self.workspace_sizes)} bytes"]
        types = self.asg.value_types
        for step in self.steps:
            node = self.asg.nodes[step.index]
            where = (
                f" -> memory {self.views[step.slot][0]}"
                if step.slot >= 0
                else f" -> input {-2 - step.slot}"
                if step.slot < -1
                else ""
            )
            outs = ", ".join(str(t) for t in node.out_types)
            lines.append(f"  {node.primitive.name} {' '.join(f'v{i}' for i in step.inputs)} : {outs}{where}")
        lines.append("  return " + ", ".join(f"v{i}: {types[i]}" for i in self.outputs))
        return "\n".join(lines)

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by use. Temporaries are the workspace; values below 2 KiB and views are not counted."""

        def total(ts: Sequence[ArrayType]) -> int:
            return sum(t.nbytes for t in ts)

        parts = {
            "arguments": total(self.asg.inputs),
            "outputs": total(self.asg.out_types),
            "constants": total(self.asg.constant_types),
            "temporaries": sum(self.workspace_sizes),
        }
        return {**parts, "total": sum(parts.values())}


@cached_by_graph(512)
def plan(asg: Asg, donated: tuple[bool, ...] = ()) -> Program:
    """The program of a graph; equal graphs share it."""
    return Program(asg, donated)
