"""What errors say about values: their types, where they were made, and which line of the user asked."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from asgfn.errors import (
    UnexpectedTracerError,
    set_locator,
)
from asgfn.graph.types import SourceInfo
from asgfn.tracing.array import Array
from asgfn.tracing.source import is_internal
from asgfn.tracing.state import state
from asgfn.tracing.tracer import Tracer


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


def leaked(x: Tracer, prim: Any) -> UnexpectedTracerError:
    return UnexpectedTracerError(
        f"a traced value leaked out of the function that was being traced ({x.trace.name or x.trace.why}) and was used later, by {prim.name}"
        + f".\n  leaked value: {describe(x)}\n"
        "  A traced value only lives while its function is traced. Return it from the function instead of storing it in a global, an attribute, a closure or a list"
    )
