"""`custom_root`: a function defined by an equation, differentiated by the implicit function theorem.

Where f(x, p) = 0, the derivative of x solves the linear equation ``df/dx dx = -df/dp dp``, whatever iteration found x.

Source: A. Griewank, A. Walther, Evaluating Derivatives, 2nd ed., SIAM 2008, chapter 15.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asgfn import dtypes
from asgfn.control.common import arrays_of, check_like, paths_of, solution_tree, trace_body
from asgfn.errors import StructureError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Zero, instantiate_zeros, is_zero, tangent_type
from asgfn.primitives.elementwise import neg
from asgfn.primitives.shaping import convert_element_type
from asgfn.tracing import Array, as_array
from asgfn.transforms.custom_jvp import custom_jvp
from asgfn.transforms.custom_rules import SymbolicZero
from asgfn.transforms.forward import jvp_run
from asgfn.transforms.function import function_name
from asgfn.transforms.interpret import run
from asgfn.transforms.linear import linearize_run
from asgfn.tree_util import tree_flatten, tree_structure, tree_unflatten


def custom_root(
    f: Callable, initial_guess: Any, solve: Callable, tangent_solve: Callable, has_aux: bool = False
) -> Any:
    """A root x of ``f(x) = 0``, found by `solve` and differentiated by the implicit function theorem.

    Arguments:
        f: from a pytree like `initial_guess` to one of the same structure and types. Traced values that it closes over
            are what the root is differentiated by.
        initial_guess: where the search starts; the root does not depend on it as far as derivatives go.
        solve: ``solve(f, initial_guess) -> root``; it may loop, with no need to be differentiable itself.
        tangent_solve: ``tangent_solve(g, y) -> x`` with ``g(x) = y``, where g is the (linear) derivative of f at the root. For
            scalars ``lambda g, y: y / g(1.0)`` will do; else use the Jacobian of g, or `custom_linear_solve`. For reverse
            mode it must be something that can be transposed.
        has_aux: `solve` returns ``(root, aux)``; aux is passed through and has no derivative.

    Returns:
        the root, of initial_guess's structure and types; ``(root, aux)`` with `has_aux`.

    Raises:
        StructureError: f, solve or tangent_solve returns something of another structure or other types.

    Example:
        >>> def square_root(a):
        ...     def newton(f, x):
        ...         return asgfn.lax.fori_loop(0, 20, lambda _, v: v - f(v) / (2 * v), x)
        ...     return custom_root(lambda x: x * x - a, a, newton, lambda g, y: y / g(1.0))
        >>> asgfn.grad(square_root)(4.0)
        Array(0.25, dtype=float32)
    """
    name = "custom_root"
    for label, function in (("f", f), ("solve", solve), ("tangent_solve", tangent_solve)):
        if not callable(function):
            raise TypeError(f"{name}: {label} must be a function, got {function!r}")
    guess, tree = arrays_of(name, initial_guess)
    types = [x.aval.update(weak_type=False) for x in guess]
    in_tree = tree_structure(((initial_guess,), {}))
    n = len(types)

    residual, params, out_tree = trace_body(name, f, in_tree, types, paths_of("x", tree))
    check_like(name, "something like initial_guess", f, tree, types, out_tree, residual.out_types)

    def solving(x: Any) -> Any:
        return solve(f, x)

    solving.__name__ = function_name(solve)
    solver, solver_params, result_tree = trace_body(name, solving, in_tree, types, paths_of("x", tree))
    x_tree = solution_tree(name, solve, result_tree, has_aux)
    check_like(name, "a root like initial_guess", solve, tree, types, x_tree, solver.out_types[:n])

    def root(guess: Sequence[Any], params: Sequence[Any], solver_params: Sequence[Any]) -> list[Any]:
        return run(solver, [*guess, *solver_params])

    root.__name__ = name
    implicit = custom_jvp(root)

    def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
        values, moving = list(primals[1]), tangents[1]
        outs = implicit(*primals)
        x = outs[:n]
        unmoved = [SymbolicZero(tangent_type(v.aval)) for v in outs]
        ts = [Zero(t.aval) if isinstance(t, SymbolicZero) else t for t in moving]
        if all(is_zero(t) for t in ts):
            return outs, unmoved
        fixed = [Zero(tangent_type(v.aval)) for v in x]
        _, shift = jvp_run(residual, [*x, *values], [*fixed, *ts])
        nonzero = [dtypes.is_inexact(v.dtype) for v in x]
        everything = [True] * n
        _, linear, residuals, _ = linearize_run(
            residual, [*x, *values], [*nonzero, *([False] * len(values))], everything
        )

        def g(v: Any) -> Any:
            flat, given = tree_flatten(v)
            if given != tree:
                raise StructureError(f"{name}: the derivative of f takes something of structure {tree}, got {given}")
            return tree_unflatten(tree, run(linear, [*_like(flat, types), *residuals]))

        rhs = [neg(instantiate_zeros(t)) for t in shift]
        moved, moved_tree = tree_flatten(tangent_solve(g, tree_unflatten(tree, rhs)))
        moved = [as_array(t, name) for t in moved]
        check_like(
            name, "a tangent like initial_guess", tangent_solve, tree, types, moved_tree, [t.aval for t in moved]
        )
        return outs, [*moved, *unmoved[n:]]

    implicit.defjvp(rule, symbolic_zeros=True)
    return tree_unflatten(result_tree, implicit(guess, params, solver_params))


def _like(values: Sequence[Any], types: Sequence[ArrayType]) -> list[Array]:
    """Python numbers among the values as arrays of the types that are expected."""
    arrays = [as_array(v, "custom_root") for v in values]
    return [
        convert_element_type(x, t.dtype) if x.weak_type and x.dtype != t.dtype else x
        for x, t in zip(arrays, types, strict=True)
    ]
