"""`custom_linear_solve`: the solution of a linear equation, by any solver, differentiated as the solution.

From A x = b follows A dx = db - dA x, whatever the algorithm: a derivative is one more solve, forward with A, in reverse with its
transpose. So loops that reverse mode cannot pass through will do, and memory does not grow with the number of iterations.

Source: A. Griewank, A. Walther, Evaluating Derivatives, 2nd ed., SIAM 2008, chapter 15.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asgfn import dtypes
from asgfn.control.common import arrays_of, check_like, paths_of, solution_tree, trace_body
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
from asgfn.tracing import as_array, bind, trace_flat
from asgfn.transforms.batching import MappedAxis, batch_graph
from asgfn.transforms.forward import jvp_run
from asgfn.transforms.function import function_name
from asgfn.transforms.interpret import run
from asgfn.transforms.linear import transpose_graph
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
    check_like(name, "something like b", matvec, tree, types, out_tree, traced.out_types)
    at_matvec = closures.add(traced, captured)

    def add_solver(solver: Callable, operator: Callable) -> tuple[int, Any]:
        def solving(rhs: Any) -> Any:
            return solver(operator, rhs)

        solving.__name__ = function_name(solver)
        graph, caught, found = trace_body(name, solving, in_tree, types, paths_of("b", tree))
        x_tree = solution_tree(name, solver, found, has_aux)
        check_like(name, "a solution like b", solver, tree, types, x_tree, graph.out_types[: len(types)])
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
