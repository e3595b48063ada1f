"""`custom_linear_solve` and `custom_root` against the same results written out."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import DTypeError, StructureError, TransformError
from asgfn.test_util import check_jvp, check_vjp

RNG = np.random.default_rng(5)
MATRIX = RNG.normal(size=(3, 3)) + 4 * np.eye(3)
SPD = MATRIX @ MATRIX.T
B = RNG.normal(size=3)


@pytest.fixture(autouse=True)
def wide():
    with asgfn.enable_x64():
        yield


def richardson(matvec, b, steps=200, rate=0.05):
    """A loop that reverse mode cannot pass through."""

    def go(state):
        i, x = state
        return (i < steps) & (jnp.max(jnp.abs(b - matvec(x))) > 1e-14)

    return lax.while_loop(go, lambda s: (s[0] + 1, s[1] + rate * (b - matvec(s[1]))), (0, jnp.zeros_like(b)))[1]


def normal_richardson(matvec, b):
    """For any invertible operator: iterates on the normal equations."""
    transposed = asgfn.linear_transpose(matvec, b)
    return richardson(lambda x: transposed(matvec(x))[0], transposed(b)[0], 3000, 0.02)


def dense(matvec, b):
    return jnp.linalg.solve(asgfn.jacobian(matvec)(b), b)


def solve_general(a, b, solver=dense):
    return lax.custom_linear_solve(lambda x: a @ x, b, solver, solver)


def solve_symmetric(a, b, solver=dense):
    return lax.custom_linear_solve(lambda x: a @ x, b, solver, symmetric=True)


@pytest.mark.parametrize(
    "f, matrix",
    [
        (solve_general, MATRIX),
        (lambda a, b: solve_general(a, b, normal_richardson), MATRIX),
        (lambda a, b: solve_symmetric((a + a.T) / 2, b), SPD),
    ],
)
def test_linear_solve_derivatives(f, matrix):
    np.testing.assert_allclose(np.asarray(f(matrix, B)), np.linalg.solve(matrix, B), rtol=1e-9)
    np.testing.assert_allclose(np.asarray(asgfn.jit(f)(matrix, B)), np.linalg.solve(matrix, B), rtol=1e-9)
    check_jvp(f, (matrix, B))
    check_vjp(f, (matrix, B))
    check_vjp(asgfn.jit(f), (matrix, B))

    def loss(a, b):
        return jnp.sum(jnp.sin(f(a, b)))

    def plain(a, b):
        return jnp.sum(jnp.sin(jnp.linalg.solve((a + a.T) / 2 if matrix is SPD else a, b)))

    for order in (asgfn.grad, lambda g, n: asgfn.jacrev(asgfn.grad(g, n), n), lambda g, n: asgfn.hessian(g, n)):
        for n in (0, 1):
            np.testing.assert_allclose(
                np.asarray(order(loss, n)(matrix, B)), np.asarray(order(plain, n)(matrix, B)), rtol=1e-6, atol=1e-8
            )


@pytest.mark.parametrize("in_axes", [(0, None), (None, 0), (0, 0), (None, 1)])
def test_linear_solve_vmap(in_axes):
    matrices = np.stack([MATRIX, MATRIX + 1, MATRIX.T])
    rhs = np.stack([B, 2 * B, B**2], axis=max(in_axes[1] or 0, 0))
    args = [x if axis is not None else y for x, y, axis in zip((matrices, rhs), (MATRIX, B), in_axes, strict=True)]

    def row(k):
        return [np.take(x, k, axis) if axis is not None else x for x, axis in zip(args, in_axes, strict=True)]

    for f in (solve_general, lambda a, b: solve_general(a, b, normal_richardson)):
        got = asgfn.jit(asgfn.vmap(f, in_axes))(*args)
        want = np.stack([np.linalg.solve(*row(k)) for k in range(3)])
        np.testing.assert_allclose(np.asarray(got), want, rtol=1e-8)
    gradient = asgfn.grad(lambda a, b: jnp.sum(solve_general(a, b) ** 2), (0, 1))
    mapped = asgfn.vmap(gradient, in_axes)(*args)
    for k in range(3):
        for a, b in zip(mapped, gradient(*row(k)), strict=True):
            np.testing.assert_allclose(np.asarray(a[k]), np.asarray(b), rtol=1e-8)


def test_linear_solve_pytrees_and_aux():
    def matvec(x):
        return {"u": 2 * x["u"] + x["v"].sum(), "v": 3.0 * x["v"]}

    def solve(op, b):
        v = b["v"] / 3
        return {"u": (b["u"] - v.sum()) / 2, "v": v}, {"steps": jnp.int32(7)}

    def f(u):
        b = {"u": u, "v": jnp.arange(2.0) + u}
        x, aux = lax.custom_linear_solve(matvec, b, solve, has_aux=True)
        return x["u"] * 2, aux["steps"]

    (out, steps), (moved, _) = asgfn.jvp(f, (3.0,), (1.0,))
    assert int(steps) == 7 and np.isclose(out, 3 - 7 / 3) and np.isclose(moved, 1 - 2 / 3)
    out, steps = asgfn.vmap(f)(jnp.array([3.0, 4.0]))
    assert out.shape == (2,) and np.isclose(out[0], 3 - 7 / 3)


def test_linear_solve_in_loops_and_rematerialised():
    def f(a):
        def body(x, _):
            x = asgfn.checkpoint(lambda y: solve_general(a, y))(x)
            return x, x.sum()

        return lax.scan(body, jnp.ones(3), None, length=3)[1].sum()

    def plain(a):
        x, total = jnp.ones(3), 0.0
        for _ in range(3):
            x = jnp.linalg.solve(a, x)
            total = total + x.sum()
        return total

    np.testing.assert_allclose(np.asarray(asgfn.grad(f)(MATRIX)), np.asarray(asgfn.grad(plain)(MATRIX)), rtol=1e-9)


def test_linear_solve_graph_is_data():
    asg = asgfn.trace(lambda a, b: solve_general(a, b))(MATRIX, B)
    assert "custom_linear_solve" in {n.primitive.name for n in asg.nodes}
    asg.validate()
    loaded = asgfn.Asg.from_bytes(asg.to_bytes())
    assert loaded == asg
    np.testing.assert_allclose(np.asarray(asgfn.grad(lambda a: loaded(a, B).sum())(MATRIX)), np.asarray(asgfn.grad(lambda a: asg(a, B).sum())(MATRIX)))  # fmt: skip


def test_linear_solve_errors():
    with pytest.raises(TransformError, match="transpose_solve"):
        asgfn.grad(lambda b: lax.custom_linear_solve(lambda x: 2 * x, b, lambda f, b: b / 2))(1.0)
    with pytest.raises(StructureError, match=r"float64\[2\] instead of float64\[3\]"):
        lax.custom_linear_solve(lambda x: x[:2], B, dense)
    with pytest.raises(StructureError, match="solution like b"):
        lax.custom_linear_solve(lambda x: x, B, lambda f, b: (b, b))
    with pytest.raises(StructureError, match="pair"):
        lax.custom_linear_solve(lambda x: x, B, dense, has_aux=True)
    with pytest.raises(DTypeError, match="floating point"):
        lax.custom_linear_solve(lambda x: x, jnp.arange(3), dense)
    with pytest.raises(TypeError, match="solve must be a function"):
        lax.custom_linear_solve(lambda x: x, B, None)


# ---------------------------------------------------------------------------------------------- custom_root
def newton(f, x):
    def go(state):
        return jnp.abs(f(state)) > 1e-13

    return lax.while_loop(go, lambda x: x - f(x) / asgfn.grad(f)(x), x)


def scalar_solve(g, y):
    return y / g(1.0)


def cube_root(a, guess=1.0):
    return lax.custom_root(lambda x: x**3 - a, guess, newton, scalar_solve)


def test_root_of_a_scalar():
    assert np.isclose(cube_root(8.0), 2)
    f = cube_root
    for k in range(4):
        want = [2, 1 / 12, -2 / 9 * 8 ** (-5 / 3), 10 / 27 * 8 ** (-8 / 3)][k]
        assert np.isclose(f(8.0), want) and np.isclose(asgfn.jit(f)(8.0), want)
        f = asgfn.grad(f)
    f = cube_root
    for k in range(3):
        want = [2, 1 / 12, -2 / 9 * 8 ** (-5 / 3)][k]
        assert np.isclose(f(8.0), want)
        f = lambda x, g=f: asgfn.jvp(g, (x,), (1.0,))[1]
    a = jnp.array([1.0, 8, 27])
    np.testing.assert_allclose(np.asarray(asgfn.vmap(cube_root)(a)), [1, 2, 3])
    np.testing.assert_allclose(
        np.asarray(asgfn.jit(asgfn.vmap(asgfn.grad(cube_root)))(a)), 1 / 3 * np.asarray(a) ** (-2 / 3)
    )
    assert asgfn.grad(lambda g: cube_root(8.0, g))(1.5) == 0


def test_root_of_a_system():
    def solve(f, x):
        for _ in range(8):
            x = x - jnp.linalg.solve(asgfn.jacobian(f)(x), f(x))
        return x, jnp.int32(8)

    def tangent_solve(g, y):
        return lax.custom_linear_solve(g, y, dense, dense)

    def f(a, n):
        def residual(x):
            return jnp.array([x[0] ** 2 + a * x[1] - n, jnp.sin(x[0]) + 3 * x[1] - a**2])

        root, _ = lax.custom_root(residual, jnp.ones(2), solve, tangent_solve, has_aux=True)
        return root

    check_jvp(lambda a: f(a, 2), (0.7,))
    check_vjp(lambda a: f(a, 2), (0.7,))
    slope = lambda a: asgfn.grad(lambda v: f(v, 2).sum())(a)
    check_jvp(slope, (0.7,))
    check_vjp(asgfn.jit(slope), (0.7,))


def test_root_of_a_pytree_with_loop_solver():
    def f(a):
        def residual(x):
            return {"u": x["u"] - jnp.cos(x["v"]) / 2, "v": x["v"] - a * x["u"]}

        def solve(g, x):
            return lax.while_loop(
                lambda s: s[0] < 100, lambda s: (s[0] + 1, asgfn.tree.map(lambda p, q: p - q, s[1], g(s[1]))), (0, x)
            )[1]

        def tangent_solve(g, y):
            return lax.custom_linear_solve(g, y, lambda op, b: by_columns(op, b), lambda op, b: by_columns(op, b))

        return lax.custom_root(residual, {"u": 0.3, "v": 0.1}, solve, tangent_solve)

    def by_columns(op, b):
        columns = [op({"u": 1.0, "v": 0.0}), op({"u": 0.0, "v": 1.0})]
        matrix = jnp.array([[c["u"] for c in columns], [c["v"] for c in columns]])
        x = jnp.linalg.solve(matrix, jnp.stack([b["u"], b["v"]]))
        return {"u": x[0], "v": x[1]}

    check_jvp(lambda a: tuple(f(a).values()), (0.4,))
    check_vjp(lambda a: tuple(f(a).values()), (0.4,))


def test_root_errors():
    with pytest.raises(StructureError, match="initial_guess"):
        lax.custom_root(lambda x: (x, x), 1.0, newton, scalar_solve)
    with pytest.raises(StructureError, match=r"tangent_solve|tangent like"):
        asgfn.grad(lambda a: lax.custom_root(lambda x: x - a, 1.0, lambda f, x: x, lambda g, y: (y, y)))(1.0)
    with pytest.raises(TypeError, match="solve must be a function"):
        lax.custom_root(lambda x: x, 1.0, None, scalar_solve)
