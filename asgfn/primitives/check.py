"""`check`: an assertion about values of a program.

Where values are known it raises at once. In a compiled program nothing can raise, so there the transform
`asgfn.experimental.checkify` has to turn checks into a value that the program returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn.errors import CheckifyError, DTypeError, FailedCheckError, NotAnArrayError, ShapeError, TransformError
from asgfn.graph.asg import Asg
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Primitive, move_batch_axis
from asgfn.primitives.elementwise import bitwise_not
from asgfn.primitives.reductions import argmax, reduce_and
from asgfn.primitives.shaping import convert_element_type
from asgfn.primitives.slicing import dynamic_index_in_dim
from asgfn.records import record
from asgfn.tracing import Array, as_array, bind
from asgfn.tracing.source import user_source
from asgfn.tree_util import tree_flatten, tree_unflatten


@record(repr=False)
class Site:
    """A place in a program where something can go wrong.

    Attributes:
        error: what is raised then.
        text: the message, a `str.format` string.
        where: the user's line, "" where it is not known.
        tree: how the values that the message quotes were packed, as (args, kwargs).
        types: their types.
    """

    error: type[CheckifyError]
    text: str
    where: str
    tree: Any
    types: tuple[ArrayType, ...]

    def __repr__(self) -> str:
        return f"{self.error.__name__}({self.text!r} at {self.where})"

    def exception(self, values: Sequence[Any]) -> CheckifyError:
        """The error, with these values in its message."""
        args, kwargs = tree_unflatten(self.tree, [np.asarray(v)[()] for v in values])
        failed = "`check` failed" if self.error is FailedCheckError else ""
        place = f"at {self.where}" if self.where else ""
        note = f"{failed} {place}".strip()
        error = self.error(self.text.format(*args, **kwargs) + (f" ({note})" if note else ""))
        error.where = ""  # the message says where it happened; where it was asked about does not matter
        return error


def _type(pred: ArrayType, *values: ArrayType, site: Site, debug: bool) -> tuple:
    if pred.shape or pred.dtype != np.bool_:
        raise ShapeError(f"check: the condition must be a boolean scalar, got {pred}")
    return ()


def _batch(args: Sequence[Any], dims: Sequence[int | None], **params: Any) -> tuple:
    """One check for the batch; its message quotes the values of the first element that fails."""
    size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    if size == 0:
        return (), ()
    front = [x if d is None else move_batch_axis(x, d, 0) for x, d in zip(args, dims, strict=True)]
    pred = front[0]
    first: Any = np.int32(0)
    if dims[0] is not None:
        first = argmax(bitwise_not(pred), 0, np.int32)
        pred = reduce_and(pred, (0,))
    values = [
        x if d is None else dynamic_index_in_dim(x, first, 0, keepdims=False)
        for x, d in zip(front[1:], dims[1:], strict=True)
    ]
    return bind(check_p, pred, *values, **params), ()


check_p: Primitive = Primitive(
    "check",
    category="callback",
    type_rule=_type,
    jvp=lambda primals, tangents, **params: (bind(check_p, *primals, **params), ()),
    transpose=lambda cts, *operands, **params: [None] * len(operands),
    batch=_batch,
    multiple_results=True,
    effect=True,
    what="Raises an error unless a condition holds; checkify turns it into a value.",
    formula="assert c",
    why="Run-time assertions in programs that are traced and compiled.",
)


def make_check(name: str, pred: Any, text: str, args: tuple, kwargs: dict[str, Any], debug: bool) -> None:
    """What `check` and `debug_check` do.

    Raises:
        ShapeError, DTypeError: the condition is not a boolean scalar.
        NotAnArrayError: a value to be quoted is no array, nor a pytree of arrays.
        ValueError: the text does not fit the values.
    """
    if not isinstance(text, str):
        raise TypeError(f"{name}: the message must be a format string, got {type(text).__name__}")
    pred = as_array(pred, name)
    if pred.shape:
        raise ShapeError(f"{name}: the condition must be a scalar, got {pred.aval}; reduce it with jnp.all or jnp.any")
    if pred.dtype != np.bool_:
        raise DTypeError(f"{name}: the condition must be boolean, got {pred.aval}; compare it with something")
    leaves, tree = tree_flatten((args, kwargs))
    try:
        values = [_strong(as_array(x, name)) for x in leaves]
    except NotAnArrayError as error:
        raise NotAnArrayError(
            f"{name}: values for the message must be arrays or pytrees of arrays; put what is known while tracing "
            f"into the text with an f-string: {error.args[0]}"
        ) from None
    types = tuple(v.aval for v in values)
    _check_format(name, text, tree, types)
    where = user_source(3)
    bind(check_p, pred, *values, site=Site(FailedCheckError, text, str(where or ""), tree, types), debug=debug)


def _strong(x: Array) -> Array:
    return convert_element_type(x, x.dtype, False) if x.weak_type else x


def _check_format(name: str, text: str, tree: Any, types: Sequence[ArrayType]) -> None:
    args, kwargs = tree_unflatten(tree, [np.ones(t.shape, t.dtype)[()] for t in types])
    try:
        text.format(*args, **kwargs)
    except (IndexError, KeyError) as error:
        raise ValueError(
            f"{name}: the message {text!r} does not fit its values ({type(error).__name__}: {error}); pass each value that "
            "it names, and write literal braces as {{ and }}"
        ) from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: the message {text!r} does not fit its values: {error}") from None


def _checks(asg: Asg) -> list[Site]:
    found = [n.params["site"] for n in asg.nodes if n.primitive is check_p and not n.params["debug"]]
    for inner in asg.inner:
        found += _checks(inner)
    return found


def refuse_checks(asg: Asg) -> None:
    """Raises if a program that is about to be compiled still has checks in it.

    Raises:
        TransformError: naming the checks, and the remedy.
    """
    found = _checks(asg) if asg.has_effects else []
    if found:
        listed = "\n".join(f"  {site.text!r} at {site.where}" for site in found[:8])
        raise TransformError(
            f"jit({asg.name}): a compiled program cannot raise the errors of its checks:\n{listed}\n"
            "Turn them into a returned value first: err, out = jit(checkify.checkify(f))(...), then err.throw() "
            "(from asgfn.experimental import checkify)"
        )


def eager_check(site: Site, debug: bool) -> Callable[..., tuple]:
    """A check as a function of NumPy arrays, which raises; for backends that run node by node."""

    def test(pred: np.ndarray, *values: np.ndarray) -> tuple:
        if not debug and not pred:
            raise site.exception(values)
        return ()

    return test
