"""Tracing: from Python functions to graphs. `bind` is where every operation passes."""

from asgfn.tracing.array import Array as Array
from asgfn.tracing.array import ConcreteArray as ConcreteArray
from asgfn.tracing.array import concrete as concrete
from asgfn.tracing.array import reject as reject
from asgfn.tracing.array import resident as resident
from asgfn.tracing.array import residents as residents
from asgfn.tracing.convert import as_array as as_array
from asgfn.tracing.convert import type_of as type_of
from asgfn.tracing.describe import describe as describe
from asgfn.tracing.state import state as state
from asgfn.tracing.trace import Trace as Trace
from asgfn.tracing.trace import bind as bind
from asgfn.tracing.trace import trace_flat as trace_flat
from asgfn.tracing.tracer import Tracer as Tracer
