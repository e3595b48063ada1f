"""`custom_linear_solve` and `custom_root`: functions defined by an equation.

Both are differentiated by the implicit function theorem instead of through the iterations that find the solution: the
derivative of x, where f(x, p) = 0, solves the linear equation ``df/dx dx = -df/dp dp``. So any solver will do, loops that
reverse mode cannot pass through included, and memory does not grow with the number of iterations.

Source: A. Griewank, A. Walther, Evaluating Derivatives, 2nd ed., SIAM 2008, chapter 15.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asgfn import dtypes
from asgfn.control.common import arrays_of, paths_of, trace_body
from asgfn.errors import DTypeError, ShapeError, StructureError, TransformError
from asgfn.graph.asg import Asg
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import (
    Primitive,
    Zero,
    add_tangents,
    bdim_at_front,
    instantiate_zeros,
    is_linear,
    is_zero,
    move_batch_axis,
    tangent_type,
)
from asgfn.primitives.elementwise import neg
from asgfn.primitives.shaping import convert_element_type
from asgfn.tracing import Array, as_array, bind, trace_flat
from asgfn.transforms.batching import MappedAxis, batch_graph
from asgfn.transforms.custom_jvp import custom_jvp
from asgfn.transforms.custom_rules import SymbolicZero
from asgfn.transforms.forward import jvp_run
from asgfn.transforms.function import function_name
from asgfn.transforms.interpret import run
from asgfn.transforms.linear import linearize_run, transpose_graph
from asgfn.tree_util import tree_flatten, tree_structure, tree_unflatten


# ---------------------------------------------------------------------------------------------- the primitive
def _type(*types: ArrayType, solve: Asg, **params: Any) -> tuple:
    for k, (t, expected) in enumerate(zip(types, solve.inputs, strict=True)):
        if t.shape != expected.shape or t.dtype != expected.dtype:
            raise ShapeError(f"custom_linear_solve: operand {k} must be {expected}, got {t}")
    return solve.out_types


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, matvec: Asg, solve: Asg, num_consts: int, **params: Any
) -> tuple:
    """From A x = b: A dx = db - dA x. How the solver depends on its own parameters does not matter."""
    consts, n = list(primals[:num_consts]), len(matvec.outputs)
    bind_solve = dict(matvec=matvec, solve=solve, num_consts=num_consts, **params)
    outs = bind(custom_linear_solve_p, *primals, **bind_solve)
    x, aux = outs[:n], outs[n:]
    fixed = [Zero(tangent_type(v.aval)) for v in x]
    rhs = list(tangents[num_consts:])
    if not all(is_zero(t) for t in tangents[:num_consts]):
        _, moved = jvp_run(matvec, [*consts, *x], [*tangents[:num_consts], *fixed])
        rhs = [add_tangents(db, m if is_zero(m) else neg(m)) for db, m in zip(rhs, moved, strict=True)]
    no_aux = tuple(Zero(tangent_type(v.aval)) for v in aux)
    if all(is_zero(r) for r in rhs):
        return outs, (*fixed, *no_aux)
    dx = bind(custom_linear_solve_p, *consts, *map(instantiate_zeros, rhs), **bind_solve)[:n]
    return outs, (*dx, *no_aux)


def _transpose(
    cts: Sequence[Any],
    *operands: Any,
    matvec: Asg,
    vecmat: Asg | None,
    solve: Asg,
    transpose_solve: Asg | None,
    num_consts: int,
) -> list:
    """The adjoint of b -> inv(A) b: solve with the transposed operator."""
    consts = operands[:num_consts]
    if any(map(is_linear, consts)):
        raise TransformError("custom_linear_solve is linear in b alone, not in what matvec and solve close over")
    if vecmat is None or transpose_solve is None:
        raise TransformError(
            "custom_linear_solve: reverse-mode differentiation needs a solver for the transposed system; give one "
            "(transpose_solve=...), or say symmetric=True if matvec is its own transpose"
        )
    n = len(matvec.outputs)
    found = bind(
        custom_linear_solve_p,
        *consts,
        *map(instantiate_zeros, cts[:n]),
        matvec=vecmat, vecmat=matvec, solve=transpose_solve, transpose_solve=solve, num_consts=num_consts,
    )[:n]  # fmt: skip
    given = zip(found, operands[num_consts:], strict=True)
    return [*([None] * num_consts), *(ct if is_linear(b) else None for ct, b in given)]


def _axis_batch(
    axis: MappedAxis,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    matvec: Asg,
    vecmat: Asg | None,
    solve: Asg,
    transpose_solve: Asg | None,
    num_consts: int,
) -> tuple:
    # a batch of operators or of right-hand sides has a batch of solutions: x and b are batched together
    n = len(matvec.outputs)
    mask = (*(d is not None for d in dims[:num_consts]), *([True] * n))

    def batched(graph: Asg) -> tuple[Asg, tuple[bool, ...]]:
        return batch_graph(graph, mask, axis, (*([True] * n), *([False] * (len(graph.outputs) - n))))

    new_solve, out = batched(solve)
    consts = [
        x if d is None else move_batch_axis(x, d, 0) for x, d in zip(args[:num_consts], dims[:num_consts], strict=True)
    ]
    b = [bdim_at_front(x, d, axis.size) for x, d in zip(args[num_consts:], dims[num_consts:], strict=True)]
    outs = bind(
        custom_linear_solve_p,
        *consts,
        *b,
        matvec=batched(matvec)[0],
        vecmat=None if vecmat is None else batched(vecmat)[0],
        solve=new_solve,
        transpose_solve=None if transpose_solve is None else batched(transpose_solve)[0],
        num_consts=num_consts,
    )
    return outs, tuple(0 if o else None for o in out)


custom_linear_solve_p = Primitive(
    "custom_linear_solve",
    category="control",
    type_rule=_type,
    jvp=_jvp,
    transpose=_transpose,
    axis_batch=_axis_batch,
    multiple_results=True,
    holds_graphs=True,
    what="Solves a linear system by a given algorithm; differentiated as the solution, whatever the algorithm.",
    formula="x with A(x) = b",
    why="Iterative solvers (conjugate gradients, GMRES), structured matrices, implicit differentiation.",
)


# ---------------------------------------------------------------------------------------------- custom_linear_solve
class _Closures:
    """Graphs traced one by one whose captured values become operands that all of them take first."""

    def __init__(self) -> None:
        self.traced: list[tuple[Asg, list[Any]]] = []
        self.captured: list[Any] = []
        self._position: dict[int, int] = {}

    def add(self, graph: Asg, captured: Sequence[Any]) -> int:
        """Takes a graph over (own inputs, captured values); returns its number."""
        for x in captured:
            if id(x) not in self._position:
                self._position[id(x)] = len(self.captured)
                self.captured.append(x)
        self.traced.append((graph, list(captured)))
        return len(self.traced) - 1

    def graph(self, number: int, why: str) -> Asg:
        """A graph over (all captured values, own inputs)."""
        graph, captured = self.traced[number]
        k = len(self.captured)
        own = graph.inputs[: len(graph.inputs) - len(captured)]
        picks = [self._position[id(x)] for x in captured]

        def lifted(*args: Any) -> list[Any]:
            return run(graph, [*args[k:], *(args[i] for i in picks)])

        return trace_flat(lifted, [*(x.aval for x in self.captured), *own], name=graph.name, why=why)[0]


def _check_same(
    name: str, what: str, f: Callable, tree: Any, types: Sequence[ArrayType], out_tree: Any, out: Any
) -> None:
    """Raises unless a function's result has the given structure and types."""
    if out_tree != tree:
        raise StructureError(
            f"{name}: {function_name(f)} must return {what}, of structure {tree}, but it returns {out_tree}"
        )
    rows = [
        f"  {path}: {b} instead of {a}"
        for path, a, b in zip(paths_of("output", tree), types, out, strict=True)
        if a.shape != b.shape or a.dtype != b.dtype
    ]
    if rows:
        raise StructureError(
            f"{name}: {function_name(f)} must return {what}, with the same types, but:\n" + "\n".join(rows)
        )


def _split_aux(name: str, f: Callable, tree: Any, has_aux: bool) -> Any:
    """The structure of the solution in the structure of a solver's result."""
    if not has_aux:
        return tree
    if tree.type is not tuple or tree.num_children != 2:
        raise StructureError(
            f"{name}(..., has_aux=True): {function_name(f)} must return a pair (solution, aux), got {tree}"
        )
    return tree.children()[0]


def custom_linear_solve(
    matvec: Callable,
    b: Any,
    solve: Callable,
    transpose_solve: Callable | None = None,
    symmetric: bool = False,
    has_aux: bool = False,
) -> Any:
    """The solution x of the linear equation ``matvec(x) = b``, found by `solve`.

    Derivatives come from the equation: they are one more solve each, and never look into the solver.

    Arguments:
        matvec: a linear, invertible function from a pytree like b to a pytree like b. Traced values that it closes over (the
            matrix) are differentiated.
        b: the right-hand side, a pytree of floating point or complex arrays.
        solve: ``solve(matvec, b) -> x``; it may loop, with no need to be differentiable itself.
        transpose_solve: ``transpose_solve(vecmat, b)``, likewise for the transposed function; needed for reverse mode.
        symmetric: `matvec` is its own transpose, so `solve` serves for both.
        has_aux: solvers return ``(x, aux)``; aux is passed through and has no derivative.

    Returns:
        x, of b's structure and types; ``(x, aux)`` with `has_aux`.

    Raises:
        StructureError: matvec or a solver returns something of another structure or other types than b.
        DTypeError: b holds integers or booleans.
        TransformError: in reverse mode, without `transpose_solve` and `symmetric`.

    Example:
        >>> matrix = jnp.array([[4.0, 1.0], [1.0, 3.0]])
        >>> custom_linear_solve(lambda x: matrix @ x, jnp.ones(2), lambda _, b: jnp.linalg.solve(matrix, b), symmetric=True)
        Array([0.18181819, 0.27272728], dtype=float32)
    """
    name = "custom_linear_solve"
    for label, f in (("matvec", matvec), ("solve", solve), ("transpose_solve", transpose_solve)):
        if not callable(f) and not (f is None and label == "transpose_solve"):
            raise TypeError(f"{name}: {label} must be a function, got {f!r}")
    leaves, tree = arrays_of(name, b)
    types = [x.aval.update(weak_type=False) for x in leaves]
    for path, t in zip(paths_of("b", tree), types, strict=True):
        if not dtypes.is_inexact(t.dtype):
            raise DTypeError(
                f"{name}: {path} must be floating point or complex, got {t}; convert it with .astype(float)"
            )
    in_tree = tree_structure(((b,), {}))
    labels = paths_of("x", tree)
    closures = _Closures()

    traced, captured, out_tree = trace_body(name, matvec, in_tree, types, labels)
    _check_same(name, "something like b", matvec, tree, types, out_tree, traced.out_types)
    at_matvec = closures.add(traced, captured)

    def add_solver(solver: Callable, operator: Callable) -> tuple[int, Any]:
        def solving(rhs: Any) -> Any:
            return solver(operator, rhs)

        solving.__name__ = function_name(solver)
        graph, caught, found = trace_body(name, solving, in_tree, types, paths_of("b", tree))
        x_tree = _split_aux(name, solver, found, has_aux)
        _check_same(name, "a solution like b", solver, tree, types, x_tree, graph.out_types[: len(types)])
        return closures.add(graph, caught), found

    at_solve, result_tree = add_solver(solve, matvec)
    at_vecmat = at_transposed = None
    if transpose_solve is not None and not symmetric:
        n, extra = len(types), len(captured)
        every = (True,) * n
        # the transposed graph takes the captured values first
        turned, _ = transpose_graph(traced, (*every, *([False] * extra)), every, every)

        def vecmat(v: Any) -> Any:
            flat, given = tree_flatten(v)
            if given != tree:
                raise StructureError(
                    f"{name}: the transposed operator takes something of structure {tree}, got {given}"
                )
            return tree_unflatten(tree, run(turned, [*captured, *(as_array(x, name) for x in flat)]))

        at_vecmat = closures.add(_captured_last(turned, extra), captured)
        at_transposed, _ = add_solver(transpose_solve, vecmat)
    elif symmetric:
        at_vecmat = at_matvec
        at_transposed = at_solve if transpose_solve is None else add_solver(transpose_solve, matvec)[0]

    outs = bind(
        custom_linear_solve_p,
        *closures.captured,
        *leaves,
        matvec=closures.graph(at_matvec, name),
        vecmat=None if at_vecmat is None else closures.graph(at_vecmat, name),
        solve=closures.graph(at_solve, name),
        transpose_solve=None if at_transposed is None else closures.graph(at_transposed, name),
        num_consts=len(closures.captured),
    )
    return tree_unflatten(result_tree, outs)


def _captured_last(graph: Asg, k: int) -> Asg:
    def moved(*args: Any) -> list[Any]:
        n = len(graph.inputs) - k
        return run(graph, [*args[n:], *args[:n]])

    return trace_flat(moved, [*graph.inputs[k:], *graph.inputs[:k]], name=graph.name, why="custom_linear_solve")[0]


# ---------------------------------------------------------------------------------------------- custom_root
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
    _check_same(name, "something like initial_guess", f, tree, types, out_tree, residual.out_types)

    def solving(x: Any) -> Any:
        return solve(f, x)

    solving.__name__ = function_name(solve)
    solver, solver_params, result_tree = trace_body(name, solving, in_tree, types, paths_of("x", tree))
    x_tree = _split_aux(name, solve, result_tree, has_aux)
    _check_same(name, "a root like initial_guess", solve, tree, types, x_tree, solver.out_types[:n])

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
        _check_same(
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
