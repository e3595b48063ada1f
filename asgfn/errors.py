"""What can go wrong, as one hierarchy under `AsgError`.

Every class also derives from the built-in exception that a NumPy or JAX user would catch.
"""

from __future__ import annotations

from collections.abc import Callable

_find_place: Callable[[], str] | None = None


def set_locator(find_place: Callable[[], str]) -> None:
    """Says how an error finds out where in the user's program it was raised; `asgfn.tracing` does so."""
    global _find_place
    _find_place = find_place


class AsgError(Exception):
    """Base of every error that asgfn raises on purpose.

    Attributes:
        where: the user's line that asked for the operation, and where its operands were made; part of the message.
    """

    def __init__(self, *args: object):
        super().__init__(*args)
        self.where = _find_place() if _find_place is not None else ""

    def __str__(self) -> str:
        message = super().__str__()
        # an error that quotes another one has the same place in it already
        return message if not self.where or self.where in message else f"{message}\n{self.where}"


class ShapeError(AsgError, TypeError, ValueError):
    """Shapes do not fit the operation."""


class DTypeError(AsgError, TypeError, ValueError):
    """Dtypes do not fit the operation."""


class TypePromotionError(DTypeError):
    """Strict promotion is on and operands have different dtypes."""


class AxisError(AsgError, ValueError, IndexError):
    """An axis is out of range or named twice."""


class IndexOutOfRangeError(AsgError, IndexError):
    """A constant index lies outside its axis."""


class IndexingError(AsgError, IndexError):
    """An index does not fit the array that it is applied to."""


class NotAnArrayError(AsgError, TypeError):
    """An argument is not an array and cannot become one."""


class ConcretizationError(AsgError, TypeError):
    """Python asked for the value of something that is only being traced."""


class TracerBoolConversionError(ConcretizationError):
    """`if`, `while`, `and`, ... on a traced value."""


class TracerIntegerConversionError(ConcretizationError):
    """`int()`, `range()`, a Python index, ... on a traced value."""


class TracerArrayConversionError(ConcretizationError):
    """NumPy asked for the value of a traced array."""


class NonConcreteBooleanIndexError(ConcretizationError, IndexError):
    """A boolean mask whose number of true entries is not known while tracing."""


class UnexpectedTracerError(AsgError):
    """A tracer outlived the function whose trace made it."""


LeakedTracerError = UnexpectedTracerError


class StructureError(AsgError, TypeError, ValueError):
    """Two pytrees, or the carries or branches of control flow, do not have the same structure."""


class TransformError(AsgError, TypeError, ValueError):
    """A transform was asked for something that it cannot do (the gradient of a non-scalar, a missing rule, ...)."""


class ImmutableError(AsgError, TypeError):
    """In-place assignment to an array."""


class GraphError(AsgError, ValueError):
    """A graph is not well formed, or its bytes are not a graph."""


class UnboundAxisError(AsgError, NameError):
    """A collective names an axis that no enclosing `vmap` binds."""


class NonFiniteError(AsgError, FloatingPointError):
    """`debug_nans` or `debug_infs` found the operation that made the first NaN or infinity."""


class DeletedArrayError(AsgError, RuntimeError):
    """An array whose memory was donated to a jitted call was used again."""


class BackendError(AsgError, RuntimeError):
    """A backend is missing, or failed."""


class CallbackError(AsgError, RuntimeError):
    """A Python callback returned something else than it promised."""


class CheckifyError(AsgError, ValueError):
    """A check of `asgfn.experimental.checkify` failed."""


class FailedCheckError(CheckifyError):
    """The condition of a `check` does not hold."""


class NaNError(CheckifyError):
    """An operation made a NaN."""


class OOBError(CheckifyError):
    """An index lies outside of its array."""


class DivisionByZeroError(CheckifyError):
    """Something was divided by zero."""
