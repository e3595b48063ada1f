"""Tracing: running a Python function on stand-ins to record what it does.

`bind` is the one place through which every operation goes. It looks at the operands: if none of them is traced (and
no `jit` is being traced) the operation is evaluated at once; else it becomes a node of the innermost trace that any
operand belongs to. Operands of outer traces, and concrete arrays, enter that trace as captured values.

A trace may know values for its inputs (under `grad`, say). Then Python may ask a tracer for its value: the part of the
graph that it depends on is evaluated with the values of the enclosing level, which are arrays or outer tracers.
"""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.backend import get_backend
from asgfn.config import config
from asgfn.errors import (
    ConcretizationError,
    NonFiniteError,
    NotAnArrayError,
    UnexpectedTracerError,
    set_locator,
)
from asgfn.graph.asg import NO_PARAMS, Asg, Node, Params, inner_graphs
from asgfn.graph.types import ArrayType, SourceInfo
from asgfn.tracing.array import Array, ConcreteArray, concrete, reject
from asgfn.tracing.source import is_internal, user_source
from asgfn.tracing.state import state


class Tracer(Array):
    """A value of a program that is being traced: it has a type, and a value only when its trace knows its inputs'."""

    __slots__ = ("id", "trace")

    id: int
    trace: Trace

    def __repr__(self) -> str:
        return f"Tracer<{self.aval}>"


_new = object.__new__


def _tracer(trace: Trace, id: int, aval: ArrayType) -> Tracer:
    t = _new(Tracer)
    t.trace = trace
    t.id = id
    t.aval = aval
    return t


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
        return _tracer(self, i, aval)

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
            return _tracer(self, first, out)
        self.producer.extend([record] * len(out_types))
        return tuple([_tracer(self, first + k, t) for k, t in enumerate(out_types)])

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
                    self.captured_values.update((i, known[i]) for i in range(record.first, record.first + len(record.out_types)))
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


# ---------------------------------------------------------------------------------------------- conversions
_small_scalars: dict[tuple, ConcreteArray] = {}


def _scalar(x: Any, dtype: np.dtype) -> ConcreteArray:
    weak = type(x) is not bool
    try:
        value = np.array(x, dtype)
    except OverflowError:
        raise OverflowError(
            f"Python int {x} is too large to convert to {dtype.name}"
            + ("" if config.enable_x64 else "; 64-bit dtypes need asgfn.config.update('enable_x64', True)")
        ) from None
    return concrete(value, ArrayType((), dtype, weak))


def as_array(x: Any, where: str = "") -> Array:
    """An Array of anything that may stand for one: arrays, NumPy arrays and scalars, Python numbers (weakly typed).

    Raises:
        NotAnArrayError: for anything else (lists, None, strings, ...).
    """
    kind = type(x)
    if kind is ConcreteArray or kind is Tracer:
        return x
    dtype = dtypes.scalar_dtype(x)
    if dtype is not None:
        key = (kind, x, dtype)
        if x == 0:  # 0.0 and -0.0 are equal but not the same
            return _scalar(x, dtype)
        found = _small_scalars.get(key)
        if found is None or found.buffer is None:  # somebody may have deleted theirs
            found = _scalar(x, dtype)
            if len(_small_scalars) < 4096:
                _small_scalars[key] = found
        return found
    if isinstance(x, (np.ndarray, np.generic)):
        if isinstance(x, np.ma.MaskedArray):
            raise NotAnArrayError(
                f"{where or 'asgfn'}: masked arrays are not supported; fill them first (x.filled(value))"
            )
        value = np.array(x, dtype=dtypes.canonicalize(x.dtype), order="C", copy=True)
        return concrete(value, ArrayType(value.shape, value.dtype))
    if isinstance(x, Array):
        return x
    convert = getattr(x, "__asgfn_array__", None) or getattr(x, "__jax_array__", None)
    if convert is not None:
        return as_array(convert(), where)
    # torch tensors, pandas columns and the like; containers and objects are not silently turned into arrays
    if hasattr(x, "__array__") and hasattr(x, "dtype"):
        return as_array(np.asarray(x), where)
    if isinstance(x, (int, float, complex)):  # subclasses: enum members, ...
        base: Callable[[Any], complex] = next(b for b in (bool, int, float, complex) if isinstance(x, b))
        return as_array(base(x))
    raise reject(x, where)


def type_of(x: Any) -> ArrayType:
    """The ArrayType of anything that `as_array` takes, or of a ShapeDtypeStruct-like object."""
    aval = getattr(x, "aval", None)
    if isinstance(aval, ArrayType):
        return aval
    if isinstance(x, ArrayType):
        return x
    if not isinstance(x, (np.ndarray, np.generic)) and hasattr(x, "shape") and hasattr(x, "dtype"):
        return ArrayType(tuple(x.shape), dtypes.canonicalize(x.dtype), bool(getattr(x, "weak_type", False)))
    if isinstance(x, (np.ndarray, np.generic)):
        return ArrayType(x.shape, dtypes.canonicalize(x.dtype))
    return as_array(x).aval


# ---------------------------------------------------------------------------------------------- bind
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
                raise _leaked(a, prim)
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


# ---------------------------------------------------------------------------------------------- what errors say
def describe(x: Any) -> str:
    """A value in words: its type and where it was made."""
    if type(x) is Tracer:
        origin = origin_of(x)
        return f"{x.aval}{' ' + origin if origin else ''}"
    if isinstance(x, Array):
        return str(x.aval)
    return repr(x)


def origin_of(x: Tracer) -> str:
    """Where a traced value comes from: the operation and the user's line, or the argument's path."""
    trace = x.trace
    record = trace.producer[x.id]
    if record is not None:
        return f"made by {record.primitive.name}" + (f" at {record.source}" if record.source else "")
    if x.id in trace.captured_values:
        return describe(trace.captured_values[x.id])
    for position, i in enumerate(trace.inputs):
        if i == x.id:
            label = trace.input_names[position]
            return (
                f"argument {label}" + (f" of {trace.name}" if trace.name else "") if label else f"argument {position}"
            )
    return ""


def place_of_error() -> str:
    """The user's line that is being executed, and where the operands of the operation that it asked for were made."""
    if state.source is not None:  # a transform is rewriting an operation of this line
        return f"  at {state.source}"
    frame = sys._getframe(2)
    entry = None
    while frame is not None and is_internal(frame.f_code):
        entry, frame = frame, frame.f_back  # type: ignore[assignment]
    if frame is None:
        return ""
    lines = [f"  at {SourceInfo(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)}"]
    if entry is not None:
        code, values = entry.f_code, entry.f_locals
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)]
        for name in names[:8]:
            value = values.get(name)
            for k, x in enumerate(value) if isinstance(value, (tuple, list)) else ((None, value),):
                if isinstance(x, Array) and (k or 0) < 8:
                    lines.append(f"  {name}{'' if k is None else f'[{k}]'}: {describe(x)}")
    return "\n".join(lines)


set_locator(place_of_error)


def _leaked(x: Tracer, prim: Any) -> UnexpectedTracerError:
    return UnexpectedTracerError(
        f"a traced value leaked out of the function that was being traced ({x.trace.name or x.trace.why}) and was used later, by {prim.name}"
        + f".\n  leaked value: {describe(x)}\n"
        "  A traced value only lives while its function is traced. Return it from the function instead of storing it in a global, an attribute, a closure or a list"
    )
