"""Loops and branches of the compiled CPU backend: those that run natively, and those in which Python takes part."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from backends.programs.steps import Loop, While
from tests import compiled_checks
from tests.compiled_checks import array, assert_same, cpu_fixture, is_native, steps  # noqa: F401

pytestmark = pytest.mark.usefixtures("cpu")
rng = np.random.default_rng(12)


def check(f: Callable, *args: Any, **options: Any) -> Any:
    return compiled_checks.check(f, *args, backend="cpu", **options)


def native(x: Any) -> Any:
    return x * 2 + 1


def python(x: Any) -> Any:
    """The same, computed by a Python function."""
    shape = asgfn.ShapeDtypeStruct(x.shape, x.dtype)
    return asgfn.pure_callback(lambda a: (np.asarray(a) * 2 + 1).astype(np.asarray(a).dtype), shape, x)


def without_kernel(x: Any) -> Any:
    """The same, by way of an operation that NumPy computes."""
    return jnp.linalg.solve(0.5 * jnp.eye(x.shape[-1]), x) + 1


HOW = {"native": native, "python": python, "without kernel": without_kernel}
everyhow = pytest.mark.parametrize("how", HOW)
LENGTHS = (0, 1, 2, 3, 6, 7)


# ---------------------------------------------------------------------------------------------- scan
@everyhow
@pytest.mark.parametrize("reverse", [False, True])
def test_swapped_carries(how: str, reverse: bool) -> None:
    call = HOW[how]

    def f(x: Any, y: Any, xs: Any) -> Any:
        def step(c: Any, v: Any) -> Any:
            a, b, k, z = c
            return (b, a, k + 1, call(z) * 0.4), (a + v, v, b, k)

        return lax.scan(step, (x, y, 0, x), xs, reverse=reverse)

    for n in LENGTHS:
        compiled = check(f, array(rng, 3), array(rng, 3), array(rng, n, 3))
        assert is_native(compiled) or how != "native"
        loops = [s for s in steps(compiled) if isinstance(s, Loop)]
        assert how == "native" or n < 2 or any(not s.on_device for s in loops)


@everyhow
def test_carries_that_go_round(how: str) -> None:
    call = HOW[how]

    def f(x: Any, y: Any, z: Any, n: int) -> Any:
        return lax.fori_loop(0, n, lambda i, c: (c[1], c[2], c[0], call(c[3]), c[0]), (x, y, z, z, x))

    for n in LENGTHS:
        check(lambda x, y, z, n=n: f(x, y, z, n), *(array(rng, 3) for _ in range(3)), rtol=1e-4)


@everyhow
def test_carries_that_are_swapped_and_donated(how: str) -> None:
    call = HOW[how]

    def f(x: Any, y: Any, n: int) -> Any:
        return lax.fori_loop(0, n, lambda i, c: (call(c[1]), c[0]), (x, y))

    for n in LENGTHS:
        x, y = array(rng, 5), array(rng, 5)
        want = asgfn.jit(f, static_argnums=2, backend="numpy")(x, y, n)
        g = asgfn.jit(f, static_argnums=2, donate_argnums=(0, 1), backend="cpu")
        assert_same(g(x.copy(), y.copy(), n), want, rtol=1e-4)
        assert_same(g(x, y, n), want, rtol=1e-4)


@everyhow
@pytest.mark.parametrize("reverse", [False, True])
def test_nested_scans_over_rows(how: str, reverse: bool) -> None:
    call = HOW[how]

    def f(x: Any, k: Any) -> Any:
        def inner(d: Any, b: Any) -> Any:
            return d * 0.5 + b * k, (call(d), b)

        def outer(c: Any, a: Any) -> Any:
            d, (ys, zs) = lax.scan(inner, c, a, reverse=reverse)
            d, us = lax.scan(inner, d, ys, reverse=not reverse)
            return d, (ys.sum(0), a, d, us, zs)

        return lax.scan(outer, jnp.ones(3), x, reverse=reverse)

    for shape in [(3, 4, 3), (2, 1, 3), (1, 2, 3), (4, 3, 3)]:
        compiled = check(f, array(rng, *shape), jnp.float32(0.7))
        assert is_native(compiled) or how != "native"


def test_three_nested_scans_and_their_gradient() -> None:
    def f(x: Any, w: Any) -> Any:
        def step(c: Any, a: Any) -> Any:
            c = jnp.tanh(c @ w + a) if a.ndim == 1 else lax.scan(step, c, a)[0]
            return c, c

        c, ys = lax.scan(step, jnp.zeros(3), x)
        return c.sum() + (ys**2).sum()

    args = array(rng, 2, 3, 4, 3), array(rng, 3, 3) * 0.4
    assert is_native(check(f, *args))
    assert is_native(check(asgfn.grad(f, argnums=(0, 1)), *args, rtol=1e-4))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "uint32", "bool", "complex64"])
@pytest.mark.parametrize("how", ["native", "python"])
def test_rows_of_each_dtype(dtype: str, how: str) -> None:
    xs = (array(rng, 5, 3) * 3).astype(dtype)
    call = (lambda x: x) if dtype == "bool" or how == "native" else python

    def f(xs: Any) -> Any:
        return lax.scan(lambda c, x: (jnp.where(x == x, x, c), (c, call(x))), jnp.zeros(3, dtype), xs)

    check(f, xs)


def test_scans_without_rows_carries_or_elements() -> None:
    check(lambda xs: lax.scan(lambda c, x: (c + 1, x * c), jnp.float32(0), xs), jnp.zeros((0, 3)))
    check(lambda x: lax.scan(lambda c, _: (c * 2, None), x, None, length=3), array(rng, 3))
    check(lambda xs: lax.scan(lambda c, x: (None, x + 1), None, xs), array(rng, 3, 2))
    check(lambda xs: lax.scan(lambda c, x: (c, x.sum()), jnp.zeros((0,)), xs), jnp.zeros((4, 0)))
    check(lambda xs: lax.scan(lambda c, x: (c + 1, (c[:0], x)), jnp.zeros(2), xs), array(rng, 3, 2))


def test_a_long_scan() -> None:
    xs = array(rng, 20001, 2) * 0.1
    check(lambda xs: lax.scan(lambda c, x: (jnp.tanh(c + x), c[0]), jnp.zeros(2), xs), xs, rtol=1e-4)


def test_a_carry_that_is_updated_at_an_index() -> None:
    check(lambda x: lax.fori_loop(0, 6, lambda i, x: x.at[i].set(x[i - 1] + i), x), array(rng, 7))
    check(lambda x: lax.fori_loop(0, 6, lambda i, x: python(x.at[i].set(x[i - 1] + i)) * 0.5, x), array(rng, 7))

    def f(x: Any) -> Any:
        def body(c: Any, v: Any) -> Any:
            c = jnp.tanh(c) + v
            return c, jnp.isfinite(c.at[1].set(jnp.inf))

        return lax.scan(body, x, jnp.arange(4.0))

    check(f, array(rng, 40))


# ---------------------------------------------------------------------------------------------- while
@everyhow
def test_while_that_swaps_its_carries(how: str) -> None:
    call = HOW[how]

    def f(x: Any, y: Any, n: Any) -> Any:
        body = lambda c: (c[1], c[0], c[2] + 1, call(c[3]), c[0] + c[1] * 2)
        return lax.while_loop(lambda c: c[2] < n, body, (x, y, 0, x, y))

    for n in LENGTHS:
        compiled = check(f, array(rng, 3), array(rng, 3), jnp.int32(n), rtol=1e-4)
        assert is_native(compiled) or how != "native"
        assert any(isinstance(s, While) for s in steps(compiled))


def test_while_whose_condition_calls_python() -> None:
    def f(x: Any, y: Any) -> Any:
        return lax.while_loop(lambda c: python(c[0]).sum() < 40, lambda c: (c[1], c[0] + c[1]), (x, y))

    for scale in (0.5, 1.0, 1.3, 100.0):
        check(f, jnp.ones(3), jnp.full(3, scale))


def test_while_on_a_batch_and_bounded() -> None:
    def f(x: Any) -> Any:
        return lax.while_loop(lambda c: (c**2).sum() > 1, lambda c: c * 0.9, x)

    check(asgfn.vmap(f), jnp.asarray([[0.1, 0.2], [5.0, 7.0], [1.0, 3.0]]))
    bounded = lambda x: lax.while_loop(lambda c: c.sum() < 10, lambda c: c * 1.5, x, max_steps=8).sum()
    check(asgfn.grad(bounded), jnp.ones(3))


# ---------------------------------------------------------------------------------------------- cond
HEAVY = (lambda x: jnp.sort(x) * 2, lambda x: x[::-1] @ jnp.ones((x.shape[0],) * 2))


@everyhow
@pytest.mark.parametrize("p", [True, False])
def test_branches(how: str, p: bool) -> None:
    call = HOW[how]
    check(lambda p, x: lax.cond(p, lambda x: call(x), lambda x: jnp.sort(x), x), jnp.asarray(p), array(rng, 6))
    check(lambda p, x: lax.cond(p, *HEAVY, call(x)), jnp.asarray(p), array(rng, 6))
    swapped = lambda x, y: lax.cond(x[0] > y[0], lambda: (call(x), y, x), lambda: (y, x, y))
    check(swapped, array(rng, 6) + (5 if p else -5), array(rng, 6))


@pytest.mark.parametrize("index", [-3, 0, 1, 2, 9])
def test_switch_keeps_its_index_in_range(index: int) -> None:
    several: list[list[Callable]] = [[jnp.sort, lambda x: x, python], [lambda x: x + 1, lambda x: x, lambda x: -x]]
    for branches in several:
        check(lambda i, x: lax.switch(i, branches, x), jnp.int32(index), array(rng, 6))


@pytest.mark.parametrize("where", ["nowhere", "branch", "scan", "while"])
def test_branches_in_scans_in_whiles(where: str) -> None:
    """A callback in any of the three makes Python run the loops around it."""
    call = {w: python if w == where else native for w in ("branch", "scan", "while")}

    def f(x: Any, xs: Any) -> Any:
        def step(c: Any, a: Any) -> Any:
            a0, a1 = c
            taken = lax.cond(a[0] > 0, lambda v: call["branch"](jnp.sort(v)) * 0.1, lambda v: v[::-1], a1)
            return (taken, a0), (call["scan"](a0) * 0.2, a)

        def body(c: Any) -> Any:
            k, pair, total = c
            pair, (ys, _) = lax.scan(step, pair, xs)
            return k + 1, (pair[1], pair[0]), total + call["while"](ys.sum(0)) * 0.3

        return lax.while_loop(lambda c: c[0] < 3, body, (0, (x, x * 2), jnp.zeros(4)))

    for n in (1, 2, 5):
        compiled = check(f, array(rng, 4), array(rng, n, 4), rtol=1e-4)
        assert is_native(compiled) == (where == "nowhere")


def test_gradients_and_batches_of_branches() -> None:
    f = lambda p, x: lax.cond(p, *HEAVY, x).sum() ** 2
    for p in (True, False):
        check(asgfn.grad(f, argnums=1), jnp.asarray(p), array(rng, 6), rtol=1e-4, atol=1e-4)
    check(asgfn.vmap(lambda p, x: lax.cond(p, *HEAVY, x)), jnp.asarray([True, False, True]), array(rng, 3, 6))


# ---------------------------------------------------------------------------------------------- effects
def test_effects_happen_in_order_and_as_often_as_they_should() -> None:
    seen: list[Any] = []

    def note(x: Any) -> Any:
        seen.append(float(x))
        return np.float32(len(seen))

    def f(xs: Any) -> Any:
        def step(c: Any, a: Any) -> Any:
            n = asgfn.experimental.io_callback(note, asgfn.ShapeDtypeStruct((), jnp.float32), a, ordered=True)
            c = lax.cond(a > 0, lambda c: c + n, lambda c: c * 2, c)
            return c, n

        return lax.scan(step, jnp.float32(0), xs)

    g = asgfn.jit(f, backend="cpu")
    for k in range(2):
        seen.clear()
        total, counts = g(jnp.asarray([1.0, -2.0, 3.0]) + k)
        assert seen == [1.0 + k, -2.0 + k, 3.0 + k]
        assert float(total) == 5.0 and np.asarray(counts).tolist() == [1, 2, 3]


def test_errors_of_callbacks_reach_the_caller_and_leave_the_function_usable() -> None:
    def fails(x: Any) -> Any:
        if float(np.asarray(x)[0]) > 2:
            raise ValueError("too large")
        return x

    def f(xs: Any) -> Any:
        call = lambda c: asgfn.pure_callback(fails, asgfn.ShapeDtypeStruct(c.shape, c.dtype), c)
        return lax.scan(lambda c, x: (call(c + x), c), jnp.zeros(2), xs)

    g = asgfn.jit(f, backend="cpu")
    for _ in range(2):
        assert_same(g(jnp.full((2, 2), 0.5))[0], jnp.ones(2))
        with pytest.raises(Exception, match="too large"):
            g(jnp.ones((5, 2)))


def test_random_numbers_in_loops() -> None:
    def f(seed: Any) -> Any:
        def step(key: Any, _: Any) -> Any:
            key, used = asgfn.random.split(key)
            return key, asgfn.random.uniform(used, (3,))

        return lax.scan(step, asgfn.random.key(seed), None, length=4)[1]

    for seed, where in itertools.product((0, 7), ("cpu",)):
        want = asgfn.jit(f, backend="numpy")(jnp.uint32(seed))
        assert_same(asgfn.jit(f, backend=where)(jnp.uint32(seed)), want, 0, 0)
