"""Tracing: running a Python function on stand-ins to record what it does.

`bind` is the one place through which every operation goes. It looks at the operands: if none of them is traced (and
no `jit` is being traced) the operation is evaluated at once; else it becomes a node of the innermost trace that any
operand belongs to. Operands of outer traces, and concrete arrays, enter that trace as captured values.

A trace may know values for its inputs (under `grad`, say). Then Python may ask a tracer for its value: the part of the
graph that it depends on is evaluated with the values of the enclosing level, which are arrays or outer tracers.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.backend import get_backend
from asgfn.config import config
from asgfn.errors import (
    ConcretizationError,
    NonFiniteError,
    UnexpectedTracerError,
)
from asgfn.graph.asg import NO_PARAMS, Asg, Node, Params, inner_graphs
from asgfn.graph.types import ArrayType, SourceInfo
from asgfn.tracing.array import Array, ConcreteArray, concrete
from asgfn.tracing.convert import as_array
from asgfn.tracing.describe import describe, leaked
from asgfn.tracing.source import user_source
from asgfn.tracing.state import state
from asgfn.tracing.tracer import Tracer, new_tracer


class Record:
    """A node while its trace is open: value ids are provisional."""

    __slots__ = ("first", "inputs", "out_types", "params", "primitive", "scope", "source")

    def __init__(
        self,
        primitive: Any,
        inputs: tuple[int, ...],
        params: Params,
        out_types: tuple[ArrayType, ...],
        first: int,
        scope: str,
        source: SourceInfo | None,
    ):
        self.primitive = primitive
        self.inputs = inputs
        self.params = params
        self.out_types = out_types
        self.first = first
        self.scope = scope
        self.source = source


class Trace:
    """A graph in the making.

    Attributes:
        level: how deep it is nested in other traces; an operation goes to the highest level among its operands.
        staging: whether operations without traced operands are recorded too.
        values: one value an input (None where unknown) if Python may ask for values; None if it may not.
        why: what to tell users who ask for a value where there is none.
    """

    def __init__(self, *, staging: bool, name: str = "", values: list[Any] | None = None, why: str = "jit"):
        self.level = state.depth + 1
        self.staging = staging
        self.outer_staging = state.staging
        self.name = name
        self.why = why
        self.closed = False
        self.types: list[ArrayType] = []  # by provisional id
        self.producer: list[Record | None] = []
        self.records: list[Record] = []
        self.inputs: list[int] = []
        self.input_names: list[str] = []
        self.captured: dict[int, int] = {}  # id(value) -> provisional id
        self.captured_values: dict[int, Any] = {}  # provisional id -> value of an outer level, kept alive
        self.values = values
        self.known: dict[int, Any] = {}  # provisional id -> evaluated value

    # ------------------------------------------------------------------ recording
    def new_input(self, aval: ArrayType, name: str = "") -> Tracer:
        i = len(self.types)
        self.types.append(aval)
        self.producer.append(None)
        self.inputs.append(i)
        self.input_names.append(name)
        return new_tracer(self, i, aval)

    def capture(self, value: Array) -> int:
        """The id under which a value from outside this trace is known in it."""
        key = id(value)
        i = self.captured.get(key)
        if i is None:
            i = len(self.types)
            self.types.append(value.aval)
            self.producer.append(None)
            self.captured[key] = i
            self.captured_values[i] = value
        return i

    def record(self, prim: Any, args: Sequence[Array], params: dict[str, Any]) -> Any:
        ids = tuple([a.id if type(a) is Tracer and a.trace is self else self.capture(a) for a in args])
        out = prim.type_rule(*[a.aval for a in args], **params)
        out_types = out if prim.multiple_results else (out,)
        first = len(self.types)
        frozen = Params(params) if params else NO_PARAMS
        source = state.source or user_source(3)
        record = Record(prim, ids, frozen, out_types, first, state.scope, source)
        self.records.append(record)
        self.types.extend(out_types)
        if not prim.multiple_results:
            self.producer.append(record)
            return new_tracer(self, first, out)
        self.producer.extend([record] * len(out_types))
        return tuple([new_tracer(self, first + k, t) for k, t in enumerate(out_types)])

    # ------------------------------------------------------------------ values on demand
    def evaluate(self, tracer: Tracer) -> Any:
        """The tracer's value on the enclosing level.

        Raises:
            ConcretizationError: when it depends on an input whose value is not known.
        """
        if self.values is None:
            raise ConcretizationError(
                f"the value of {describe(tracer)} is not known while it is being traced for {self.why}"
            )
        known = self.known
        if not known:
            known.update(zip(self.inputs, self.values, strict=True))
        needed: set[int] = set()
        todo = [tracer.id]
        while todo:
            i = todo.pop()
            if i in known or i in needed or i in self.captured_values:
                continue
            needed.add(i)
            record = self.producer[i]
            assert record is not None, "an input of the trace has no value"
            todo.extend(record.inputs)
        saved = state.staging, state.source
        state.staging = self.outer_staging
        try:
            done: set[int] = set()
            for i in sorted(needed):
                record = self.producer[i]
                if record is None or record.first in done:
                    continue
                done.add(record.first)
                state.source = record.source
                args = [self.captured_values[k] if k in self.captured_values else known[k] for k in record.inputs]
                out = bind(record.primitive, *args, **record.params)
                if record.primitive.multiple_results:
                    known.update(zip(range(record.first, record.first + len(out)), out, strict=True))
                else:
                    known[record.first] = out
                if record.primitive.effect:  # it has happened: the program gets its results and does not repeat it
                    self.records.remove(record)
                    self.captured_values.update(
                        (i, known[i]) for i in range(record.first, record.first + len(record.out_types))
                    )
        finally:
            state.staging, state.source = saved
        return self.captured_values[tracer.id] if tracer.id in self.captured_values else known[tracer.id]

    # ------------------------------------------------------------------ the result
    def finish(self, outputs: Sequence[Array]) -> tuple[Asg, list[Any]]:
        """The recorded graph without what the outputs do not need, and the captured values.

        Captured tracers of outer levels become extra inputs, after the trace's own; captured concrete arrays become
        constants. The second result lists the former.
        """
        out_ids = [o.id if type(o) is Tracer and o.trace is self else self.capture(o) for o in outputs]
        live = bytearray(len(self.types))
        for i in out_ids:
            live[i] = 1
        kept: list[Record] = []
        for record in reversed(self.records):
            first = record.first
            prim = record.primitive
            if (
                live[first : first + len(record.out_types)].count(1)
                or prim.effect
                or (prim.holds_graphs and prim.is_effectful(record.params))
            ):
                for i in record.inputs:
                    live[i] = 1
                kept.append(record)
        kept.reverse()

        new_id = [-1] * len(self.types)
        in_types = [self.types[i] for i in self.inputs]
        names = list(self.input_names)
        for k, i in enumerate(self.inputs):
            new_id[i] = k
        captures: list[Any] = []
        constants: list[np.ndarray] = []
        constant_types: list[ArrayType] = []
        constant_at: list[int] = []
        by_value: dict[tuple, int] = {}
        same: dict[int, int] = {}
        for i, value in self.captured_values.items():
            if not live[i]:
                continue
            if type(value) is Tracer:
                new_id[i] = len(in_types)
                in_types.append(value.aval)
                names.append(f"captured{len(captures)}")
                captures.append(value)
                continue
            array = value.value
            if array.size == 1:  # scalars repeat all over a program: keep one of each
                key = (value.aval, array.tobytes())
                if key in by_value:
                    same[i] = by_value[key]
                    continue
                by_value[key] = i
            constant_at.append(i)
            constants.append(array)
            constant_types.append(value.aval)
        for k, i in enumerate(constant_at):
            new_id[i] = len(in_types) + k
        for i, twin in same.items():
            new_id[i] = new_id[twin]
        at = len(in_types) + len(constants)
        nodes = []
        for r in kept:
            ids = tuple([new_id[i] for i in r.inputs])
            nodes.append(tuple.__new__(Node, (r.primitive, ids, r.params, r.out_types, r.scope, r.source)))
            for i in range(r.first, r.first + len(r.out_types)):
                new_id[i] = at
                at += 1
        asg = Asg(
            in_types,
            constants,
            nodes,
            [new_id[i] for i in out_ids],
            constant_types=constant_types,
            name=self.name,
            input_names=names,
        )
        return asg, captures


def open_trace(trace: Trace) -> tuple:
    """Makes a trace the innermost one; returns what `close_trace` needs to undo that."""
    saved = state.depth, state.staging, state.scope, state.source
    state.depth = trace.level
    state.source = None
    if trace.staging:
        state.staging = trace
        state.scope = ""
    return saved


def close_trace(trace: Trace, saved: tuple) -> None:
    trace.closed = True
    state.depth, state.staging, state.scope, state.source = saved


def trace_flat(
    fun: Callable[..., Sequence[Any]],
    in_types: Sequence[ArrayType],
    *,
    name: str = "",
    input_names: Sequence[str] | None = None,
    values: list[Any] | None = None,
    staging: bool = True,
    why: str = "jit",
) -> tuple[Asg, list[Any]]:
    """Traces a function from arrays to a flat sequence of arrays.

    Returns:
        the graph, whose inputs are `in_types` followed by the types of captured outer tracers, and these tracers.
    """
    trace = Trace(staging=staging, name=name, values=values, why=why)
    saved = open_trace(trace)
    try:
        labels = input_names or [""] * len(in_types)
        tracers = [trace.new_input(t, label) for t, label in zip(in_types, labels, strict=True)]
        outs = fun(*tracers)
        result = trace.finish([as_array(o) for o in outs])
    finally:
        close_trace(trace, saved)
    if config.check_tracer_leaks:
        del tracers, outs
        _check_leaks(trace)
    return result


def _check_leaks(trace: Trace) -> None:
    """Raises if somebody still holds a tracer of a trace that is over."""
    gc.collect()
    alive = [x for x in gc.get_referrers(trace) if type(x) is Tracer]
    if alive:
        raise UnexpectedTracerError(
            f"{len(alive)} traced value(s) outlived the function that was being traced ({trace.name or trace.why}):\n"
            + "\n".join(f"  {describe(x)}" for x in alive[:8])
            + "\n  Return values from the function instead of storing them in a global, an attribute or a closure"
        )


def bind(prim: Any, *args: Any, **params: Any) -> Any:
    """Applies a primitive: evaluates it, or records it on the innermost trace that is concerned.

    Returns an Array, or a tuple of them when the primitive has several results.
    """
    trace: Trace | None = state.staging
    level = trace.level if trace is not None else 0
    ready = True
    for a in args:
        kind = type(a)
        if kind is Tracer:
            owner = a.trace
            if owner.closed:
                raise leaked(a, prim)
            if owner.level > level:
                trace = owner
                level = owner.level
        elif kind is not ConcreteArray:
            ready = False
    if not ready:
        args = tuple([as_array(a, prim.name) for a in args])
    mapping = state.mapping
    if mapping is not None and mapping.level > level and "axis_names" in params:
        trace = mapping  # the result of a collective belongs to the members of the map, whatever its operand
    if trace is not None:
        return trace.record(prim, args, params)
    return _evaluate(prim, args, params)


_kernels: dict[tuple, tuple] = {}


def clear_kernels() -> None:
    """Forgets the kernels of eager operations."""
    _kernels.clear()


def _evaluate(prim: Any, args: Sequence[ConcreteArray], params: dict[str, Any]) -> Any:
    types = tuple([a.aval for a in args])
    name = config.default_backend
    try:
        held = prim.holds_graphs and (config.trace_key, tuple([g.origin for g in inner_graphs(params)]))
        key = (prim, types, tuple(params.items()), name, held)
        entry = _kernels.get(key)
    except TypeError as error:
        raise TypeError(f"{prim.name}: a parameter is not hashable: {params} ({error})") from None
    if entry is None:
        out = prim.type_rule(*types, **params)
        out_types = out if prim.multiple_results else (out,)
        kernel = get_backend("numpy").kernel(prim, types, out_types, params)
        entry = (kernel, out_types)
        if len(_kernels) > 8192:
            _kernels.clear()
        _kernels[key] = entry
    kernel, out_types = entry
    outs = kernel([a.value for a in args])
    if config.debug_nans or config.debug_infs:
        check_finite(prim, outs, state.source or user_source(3))
    if prim.multiple_results:
        return tuple([concrete(v, t) for v, t in zip(outs, out_types, strict=True)])
    return concrete(outs[0], out_types[0])


def check_finite(prim: Any, values: Sequence[np.ndarray], source: SourceInfo | None, scope: str = "") -> None:
    """Raises NonFiniteError if `debug_nans` (`debug_infs`) is on and a value has a NaN (an infinity)."""
    for value in values:
        if not dtypes.is_inexact(value.dtype):
            continue
        found = None
        if config.debug_nans and np.isnan(value).any():
            found = "nan"
        elif config.debug_infs and np.isinf(value).any():
            found = "infinity"
        if found:
            place = f"\n  at {source}" if source is not None else ""
            place += f"\n  in scope {scope}" if scope else ""
            raise NonFiniteError(
                f"invalid value ({found}) encountered in {prim.name}, which made {value.dtype.name}{list(value.shape)}{place}"
            )
