"""`checkify`: run-time assertions and error checks in programs that are compiled.

    from asgfn.experimental import checkify

    def f(x, i):
        checkify.check(i >= 0, "index must not be negative, got {i}", i=i)
        return jnp.sin(x[i])

    err, y = asgfn.jit(checkify.checkify(f))(x, i)
    err.throw()

A compiled program cannot raise. `checkify` makes errors a value that the program returns beside its result; the value
goes through `jit`, `vmap` and `grad` like any other, and becomes an exception where the user asks for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import numpy as np

from asgfn.errors import CheckifyError, DivisionByZeroError, FailedCheckError, NaNError, OOBError
from asgfn.primitives.check import check_p, make_check
from asgfn.primitives.elementwise import ne
from asgfn.primitives.reductions import argmax
from asgfn.primitives.shaping import reshape
from asgfn.primitives.slicing import dynamic_index_in_dim
from asgfn.tracing import Tracer, as_array, bind, state
from asgfn.transforms.checked import Plan, checked_run, find_sites
from asgfn.transforms.differentiate import as_function
from asgfn.transforms.function import check_leaves, leaf_names, trace_to_graph
from asgfn.tree_util import register_pytree_node, tree_flatten, tree_unflatten

ErrorCategory = type[CheckifyError]
JaxRuntimeError = CheckifyError

user_checks: frozenset[ErrorCategory] = frozenset({FailedCheckError})
nan_checks: frozenset[ErrorCategory] = frozenset({NaNError})
index_checks: frozenset[ErrorCategory] = frozenset({OOBError})
div_checks: frozenset[ErrorCategory] = frozenset({DivisionByZeroError})
float_checks: frozenset[ErrorCategory] = nan_checks | div_checks
automatic_checks: frozenset[ErrorCategory] = float_checks | index_checks
all_checks: frozenset[ErrorCategory] = automatic_checks | user_checks


class Error:
    """What went wrong, if anything, as a value: the first result of a checkified function.

    It is a pytree whose leaves are the number of the check that failed first (int32, 0 if none did) and the values that
    messages quote. Under `vmap` it holds an error for each element.
    """

    __slots__ = ("_plan", "_state")

    def __init__(self, plan: Plan, state: Iterable[Any]):
        self._plan = plan
        self._state = tuple(state)

    def get_exception(self) -> CheckifyError | None:
        """The exception that `throw` would raise, or None if nothing went wrong.

        Of a mapped error, one whose message has a line for each element in which something went wrong.
        """
        codes = np.asarray(self._state[0])
        failed = np.argwhere(codes)
        if not len(failed):
            return None
        found = []
        for position in map(tuple, failed.tolist()):
            site = self._plan.sites[int(codes[position]) - 1]
            found.append(
                (position, site.exception([v[position] for v in map(np.asarray, self._plan.values(self._state, site))]))
            )
        if not codes.ndim:
            return found[0][1]
        lines = [f"at mapped index {', '.join(map(str, p))}: {e}" for p, e in found]
        error = CheckifyError("\n".join(lines))
        error.where = ""
        return error

    def get(self) -> str | None:
        """The message of what went wrong, or None."""
        error = self.get_exception()
        return None if error is None else str(error)

    def throw(self) -> None:
        """Raises what went wrong, if anything did; in a traced function this is `check_error`.

        Raises:
            CheckifyError: a FailedCheckError, NaNError, OOBError or DivisionByZeroError; all are ValueErrors.
        """
        check_error(self)

    def __repr__(self) -> str:
        if any(type(x) is Tracer for x in self._state):
            return "Error(traced)"
        return f"Error({self.get()})"


register_pytree_node(Error, lambda e: (e._state, e._plan), lambda plan, state: Error(plan, state))


def check(pred: Any, msg: str, *fmt_args: Any, debug: bool = False, **fmt_kwargs: Any) -> None:
    """Asserts that a condition holds when the program runs.

    Outside of a compiled program a condition that does not hold raises at once. To use checks under `jit`, apply
    `checkify` to the function first.

    Arguments:
        pred: a boolean scalar.
        msg: the message, a `str.format` string.
        fmt_args, fmt_kwargs: arrays, or pytrees of arrays, that it quotes.
        debug: as `debug_check`.

    Raises:
        FailedCheckError: the condition is known and does not hold.
        ShapeError, DTypeError: it is not a boolean scalar.
        ValueError: the message does not fit the values.

    Example:
        >>> def f(x):
        ...     check(x > 0, "{x} must be positive", x=x)
        ...     return 1 / x
        >>> err, out = asgfn.jit(checkify(f))(-3.0)
        >>> err.throw()  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        ...
        FailedCheckError: -3.0 must be positive (`check` failed at example.py:2 (f))
    """
    make_check("check", pred, msg, fmt_args, fmt_kwargs, debug)


def debug_check(pred: Any, msg: str, *fmt_args: Any, **fmt_kwargs: Any) -> None:
    """A `check` that does nothing unless the function is checkified: it may stay in functions that are jitted as they are."""
    make_check("debug_check", pred, msg, fmt_args, fmt_kwargs, True)


def checkify(f: Callable, errors: frozenset[ErrorCategory] = user_checks) -> Callable:
    """A function that returns what went wrong beside its result: ``checkify(f)(*args) -> (err, f(*args))``.

    Arguments:
        f: a function of arrays; it may be jitted, mapped or a gradient.
        errors: what to look out for, a union of `user_checks` (calls of `check`), `nan_checks` (operations whose result has
            a NaN), `div_checks` (division by zero), `index_checks` (indices out of range), or `float_checks`, `automatic_checks`,
            `all_checks`.

    Returns:
        a function with f's arguments. It can be transformed in turn; `vmap` gives an error for each element. When several
        things go wrong, the error is the first in the order of the program; loops stop then.

    Example:
        >>> err, y = checkify(lambda x: jnp.log(x), errors=float_checks)(-1.0)
        >>> err.get() is not None
        True
    """
    fun = as_function("checkify", f)
    wanted = frozenset(errors)
    unknown = [e for e in wanted if not (isinstance(e, type) and e in all_checks)]
    if unknown:
        raise TypeError(
            f"checkify: errors must be a set such as checkify.user_checks | checkify.nan_checks, got {unknown}"
        )

    @wraps(fun, updated=())
    def checked(*args: Any, **kwargs: Any) -> tuple[Error, Any]:
        leaves, tree = tree_flatten((args, kwargs))
        leaves = check_leaves(leaves, lambda: leaf_names(fun, args, kwargs), "checkify", fun)
        args, kwargs = tree_unflatten(tree, leaves)
        asg, captured, out_tree = trace_to_graph(
            fun, args, kwargs, values=state.staging is None, why="checkify", types=[x.aval for x in leaves]
        )
        plan = Plan(find_sites(asg, wanted), wanted)
        final, outs = checked_run(asg, plan, plan.initial(), [*leaves, *captured])
        return Error(plan, final), tree_unflatten(out_tree, outs)

    return checked


def check_error(error: Error) -> None:
    """Raises what went wrong, if anything did. In a traced function it is a `check`, so that an error caught by an inner
    `checkify` can be handed to an outer one.

    Raises:
        CheckifyError: the error is known, and is one.
    """
    if not isinstance(error, Error):
        raise TypeError(f"check_error takes an Error, the first result of a checkified function; got {error!r}")
    plan = error._plan
    values = [as_array(x) for x in error._state]
    if state.staging is None and not any(type(x) is Tracer for x in values):
        exception = error.get_exception()
        if exception is not None:
            raise exception
        return
    shape = values[0].shape
    if shape:  # of a mapped error, the first element in which something went wrong
        flat = [reshape(x, (values[0].size, *x.shape[len(shape) :])) for x in values]
        first = argmax(ne(flat[0], np.int32(0)), 0, np.int32)
        values = [dynamic_index_in_dim(x, first, 0, keepdims=False) for x in flat]
    for code, site in enumerate(plan.sites, start=1):
        bind(check_p, ne(values[0], np.int32(code)), *plan.values(values, site), site=site, debug=False)
