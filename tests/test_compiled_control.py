"""Loops and branches on backends that compile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from backends.programs.steps import Branch, Download, Loop, While
from tests.compiled_checks import (  # noqa: F401
    array,
    backend_fixture,
    check,
    cpu_fixture,
    finished,
    gpu_fixture,
    is_native,
    steps,
)

rng = np.random.default_rng(3)


def doubled(x: Any) -> Any:
    return asgfn.pure_callback(lambda a: np.asarray(a) * 2, asgfn.ShapeDtypeStruct(x.shape, x.dtype), x)


# ---------------------------------------------------------------------------------------------- scan
def recurrent(w: Any, u: Any, xs: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        h = jnp.tanh(h @ w + x @ u)
        return h, h

    h, ys = lax.scan(step, jnp.zeros((3, 4)), xs)
    return h.sum() + (ys**2).sum()


@pytest.mark.parametrize("length", [1, 2, 5])
def test_scan_of_a_network_and_its_gradient_stay_on_the_device(backend: str, length: int) -> None:
    args = array(rng, 4, 4), array(rng, 2, 4), array(rng, length, 3, 2)
    assert is_native(check(recurrent, *args, backend=backend))
    assert is_native(check(asgfn.grad(recurrent, argnums=(0, 1, 2)), *args, backend=backend))


def test_second_derivative_of_a_scan(backend: str) -> None:
    def f(w: Any) -> Any:
        return recurrent(w, jnp.ones((2, 4)), jnp.ones((3, 3, 2)))

    check(asgfn.hessian(f), array(rng, 4, 4) * 0.3, rtol=1e-4, atol=1e-4, backend=backend)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("width", [1, 3, 4, 5])
def test_scan_reads_and_writes_rows_of_any_width(backend: str, width: int, reverse: bool) -> None:
    def f(xs: Any) -> Any:
        return lax.scan(lambda c, x: (c + x, (c * x, x > 0, c)), jnp.zeros(width), xs, reverse=reverse)

    assert is_native(check(f, array(rng, 7, width), backend=backend))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "uint32", "bool"])
def test_scan_over_rows_of_each_dtype(backend: str, dtype: str) -> None:
    xs = (array(rng, 5, 3) * 3).astype(dtype)

    def f(xs: Any) -> Any:
        return lax.scan(lambda c, x: (jnp.maximum(c, x), (c, x)), jnp.zeros(3, dtype), xs)

    check(f, xs, backend=backend)


def test_carries_that_change_places_stay_or_are_results(backend: str) -> None:
    def f(x: Any, y: Any, z: Any, n: int) -> Any:
        return lax.fori_loop(0, n, lambda i, c: (c[1], c[0] + 1, c[2], c[3] + c[2], c[1]), (x, y, z, z, x))

    for n in (0, 1, 2, 3):
        check(lambda x, y, z, n=n: f(x, y, z, n), array(rng, 3), array(rng, 3), array(rng, 3), backend=backend)


def test_carry_that_is_updated_at_an_index(backend: str) -> None:
    def f(x: Any) -> Any:
        return lax.fori_loop(0, 6, lambda i, x: x.at[i].set(x[i - 1] + i), x)

    assert is_native(check(f, array(rng, 7), backend=backend))


def test_carry_is_not_overwritten_by_an_update_of_it(backend: str) -> None:
    def f(x: Any) -> Any:
        def body(c: Any, v: Any) -> Any:
            c = jnp.tanh(c) + v
            return c, jnp.isfinite(c.at[1].set(jnp.inf))

        return lax.scan(body, x, jnp.arange(4.0))

    check(f, array(rng, 40), backend=backend)


def test_scans_in_scans(backend: str) -> None:
    def f(x: Any, k: Any) -> Any:
        def outer(c: Any, a: Any) -> Any:
            d, ys = lax.scan(lambda d, b: (d * 0.5 + b * k, d), c, a)
            return d, (ys.sum(), a, d)

        return lax.scan(outer, jnp.float32(1), x)

    for shape in [(3, 4), (2, 1), (4, 3)]:
        assert is_native(check(f, array(rng, *shape), array(rng), backend=backend))


def test_scan_of_many_steps(backend: str) -> None:
    def f(xs: Any) -> Any:
        return lax.scan(lambda c, x: (jnp.tanh(c + x), c[0]), jnp.zeros(2), xs)

    xs = array(rng, 9000, 2) * 0.1  # more rows than a GPU has numbers of rows for
    compiled = check(f, xs, backend=backend)
    assert is_native(compiled)


def test_scan_without_steps_rows_or_carry(backend: str) -> None:
    check(lambda xs: lax.scan(lambda c, x: (c + 1, x * c), jnp.float32(0), xs), jnp.zeros((0, 3)), backend=backend)
    check(lambda x: lax.scan(lambda c, _: (c * 2, None), x, None, length=3), array(rng, 3), backend=backend)
    check(lambda xs: lax.scan(lambda c, x: (None, x + 1), None, xs), array(rng, 3, 2), backend=backend)
    check(lambda xs: lax.scan(lambda c, x: (c, x.sum()), jnp.zeros((0,)), xs), jnp.zeros((4, 0)), backend=backend)


def test_scan_that_calls_python_is_run_by_the_host(backend: str) -> None:
    def f(xs: Any) -> Any:
        return lax.scan(lambda c, x: (c + doubled(x), c * 2), jnp.zeros(3), xs)

    compiled = check(f, array(rng, 4, 3), backend=backend)
    assert any(isinstance(s, Loop) and not s.on_device for s in steps(compiled))
    assert compiled.host_nodes == ["pure_callback: it calls Python"]


def test_vmap_of_a_scan_of_cumulative_products(backend: str) -> None:
    def f(xs: Any) -> Any:
        return lax.scan(lambda c, x: (c * x, c), jnp.float32(1), xs)[1]

    check(asgfn.vmap(f), array(rng, 3, 5), backend=backend)


# ---------------------------------------------------------------------------------------------- while
def power(x: Any, n: Any) -> Any:
    return lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] * x, c[1]), (0, jnp.ones_like(x), x))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 7, 200])
def test_while_runs_exactly_as_often_as_its_condition_holds(backend: str, n: int) -> None:
    compiled = check(power, 1 + 0.01 * array(rng, 3), jnp.int32(n), rtol=1e-4, backend=backend)
    assert not any(isinstance(s, Download) for s in steps(compiled))


def test_while_on_a_batch_runs_until_the_last_has_ended(backend: str) -> None:
    def f(x: Any) -> Any:
        return lax.while_loop(lambda c: (c**2).sum() > 1, lambda c: c * 0.9, x)

    check(asgfn.vmap(f), jnp.asarray([[0.1, 0.2], [5.0, 7.0], [1.0, 3.0]]), backend=backend)


def test_while_that_swaps_its_carries(backend: str) -> None:
    def f(x: Any, y: Any, n: Any) -> Any:
        return lax.while_loop(lambda c: c[2] < n, lambda c: (c[1], c[0] + c[1], c[2] + 1), (x, y, 0))

    for n in (0, 1, 2, 5):
        check(f, array(rng, 3), array(rng, 3), jnp.int32(n), backend=backend)


def test_while_in_a_scan_and_in_a_branch(backend: str) -> None:
    def inner(c: Any, limit: Any) -> Any:
        return lax.while_loop(lambda z: z.sum() < limit, lambda z: z + 1, c)

    check(
        lambda xs: lax.scan(lambda c, x: (inner(c, x.sum() ** 2) * 0.1, c), jnp.zeros(3), xs),
        array(rng, 4, 3),
        backend=backend,
    )
    for p in (True, False):
        check(
            lambda p, x: lax.cond(p, lambda x: inner(x, 10.0), lambda x: x - 1, x),
            jnp.asarray(p),
            array(rng, 4),
            backend=backend,
        )


def test_while_that_calls_python_asks_each_time(backend: str) -> None:
    def f(x: Any) -> Any:
        return lax.while_loop(lambda c: c.sum() < 100, doubled, x)

    compiled = check(f, jnp.ones(3), backend=backend)
    assert any(isinstance(s, While) for s in steps(compiled)) and not is_native(compiled)


def test_gradient_of_a_bounded_while(backend: str) -> None:
    def f(x: Any) -> Any:
        return lax.while_loop(lambda c: c.sum() < 10, lambda c: c * 1.5, x, max_steps=8).sum()

    check(asgfn.grad(f), jnp.ones(3), backend=backend)


# ---------------------------------------------------------------------------------------------- cond
def heavy(p: Any, x: Any) -> Any:
    return lax.cond(p, lambda x: jnp.sort(x) * 2, lambda x: x[::-1] @ jnp.ones((6, 6)), x)


@pytest.mark.parametrize("p", [True, False])
def test_branch_is_chosen_on_the_device(backend: str, p: bool) -> None:
    compiled = check(heavy, jnp.asarray(p), array(rng, 6), backend=backend)
    assert is_native(compiled) and not any(isinstance(s, Download) for s in steps(compiled))


@pytest.mark.parametrize("p", [True, False])
def test_cheap_branches_are_one_kernel(backend: str, p: bool) -> None:
    compiled = check(
        lambda p, x: lax.cond(p, lambda x: x * 2, lambda x: x + 1, x), jnp.asarray(p), array(rng, 6), backend=backend
    )
    assert len(finished(compiled).kernels) == 1


@pytest.mark.parametrize("index", [-3, 0, 1, 2, 9])
def test_switch_keeps_its_index_in_range(backend: str, index: int) -> None:
    branches = [jnp.sort, lambda x: x, lambda x: -jnp.sort(-x)]
    check(lambda i, x: lax.switch(i, branches, x), jnp.int32(index), array(rng, 6), backend=backend)
    check(
        lambda i, x: lax.switch(i, [lambda x: x + 1, lambda x: x, lambda x: -x], x),
        jnp.int32(index),
        array(rng, 6),
        backend=backend,
    )


def test_branches_that_return_operands(backend: str) -> None:
    def f(p: Any, x: Any, y: Any) -> Any:
        return lax.cond(p, lambda x, y: (y, jnp.sort(x), x), lambda x, y: (jnp.sort(x), x, x), x, y)

    for p in (True, False):
        check(f, jnp.asarray(p), array(rng, 5), array(rng, 5), backend=backend)


def test_branches_in_branches_and_in_loops(backend: str) -> None:
    def f(x: Any) -> Any:
        def step(c: Any, a: Any) -> Any:
            inner = lambda c: heavy(a[1] > 0, c)
            c = lax.cond(a[0] > 0, inner, lambda c: jnp.sort(-c), c)
            return c * 0.1, c * 2

        return lax.scan(step, jnp.arange(6.0), x)

    assert is_native(check(f, array(rng, 8, 6), backend=backend))

    def g(x: Any) -> Any:
        def body(c: Any) -> Any:
            return c[0] + 1, lax.cond(c[0] % 2 == 0, jnp.sort, lambda x: -jnp.sort(x), c[1])

        return lax.while_loop(lambda c: c[0] < 7, body, (jnp.int32(0), x))

    check(g, array(rng, 5), backend=backend)


def test_branch_that_calls_python(backend: str) -> None:
    def f(p: Any, x: Any) -> Any:
        return lax.cond(p, doubled, jnp.sort, x)

    for p in (True, False):
        compiled = check(f, jnp.asarray(p), array(rng, 5), backend=backend)
    assert any(isinstance(s, Branch) for s in steps(compiled))


def test_gradients_and_batches_of_branches(backend: str) -> None:
    def f(p: Any, x: Any) -> Any:
        return heavy(p, x).sum() ** 2

    for p in (True, False):
        check(asgfn.grad(f, argnums=1), jnp.asarray(p), array(rng, 6), rtol=1e-4, atol=1e-4, backend=backend)
    check(asgfn.vmap(heavy), jnp.asarray([True, False, True]), array(rng, 3, 6), backend=backend)


def test_effects_of_branches_and_loops_happen_in_order(backend: str) -> None:
    seen: list[Any] = []

    def f(x: Any) -> Any:
        def step(c: Any, a: Any) -> Any:
            asgfn.debug.callback(lambda v: seen.append(float(v)), a)
            lax.cond(a > 0, lambda: asgfn.debug.callback(lambda: seen.append("+")), lambda: None)
            return c + a, None

        return lax.scan(step, 0.0, x)[0]

    assert float(asgfn.jit(f, backend=backend)(jnp.asarray([1.0, -2.0, 3.0]))) == 2.0
    assert seen == [1.0, "+", -2.0, 3.0, "+"]
