"""Transforms compose: every program, under every pair of transforms, gives what it must."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from tests.programs import PROGRAMS, VECTOR


def direction_at(x):
    return jnp.asarray(np.cos(VECTOR), x.dtype)


# transforms that leave a scalar function of a vector what it is
NEUTRAL = {
    "jit": asgfn.jit,
    "checkpoint": asgfn.checkpoint,
    **({"fuse": asgfn.fuse} if hasattr(asgfn, "fuse") else {}),
    "vmap and pick": lambda f: lambda x: asgfn.vmap(f)(jnp.stack([x, x * 0.5]))[0],
    "graph": lambda f: lambda x: asgfn.trace(f)(asgfn.ShapeDtypeStruct(x.shape, x.dtype))(x),
    "linearize": lambda f: lambda x: asgfn.linearize(f, x)[0],
    "vjp": lambda f: lambda x: asgfn.vjp(f, x)[0],
    "disable_jit": lambda f: f,
}
# transforms that make another scalar function of a vector, by the program's derivative
DERIVED = {
    "grad": lambda f: lambda x: jnp.sum(asgfn.grad(f)(x) * np.cos(VECTOR)),
    "jvp": lambda f: lambda x: asgfn.jvp(f, (x,), (direction_at(x),))[1],
    "vjp": lambda f: lambda x: jnp.sum(asgfn.vjp(f, x)[1](jnp.ones((), x.dtype))[0] * np.cos(VECTOR)),
    "linearize": lambda f: lambda x: asgfn.linearize(f, x)[1](direction_at(x)),
    "jacfwd": lambda f: lambda x: asgfn.jacfwd(f)(x) @ np.cos(VECTOR),
    "jacrev": lambda f: lambda x: asgfn.jacrev(f)(x) @ np.cos(VECTOR),
}


def central(f, x, direction, eps):
    with asgfn.enable_x64():
        x, d = np.asarray(x, np.float64), np.asarray(direction, np.float64)
        return (float(f(jnp.asarray(x + eps * d))) - float(f(jnp.asarray(x - eps * d)))) / (2 * eps)


@pytest.fixture(scope="module")
def expected():
    """Values and first derivatives of the programs, from evaluation alone."""
    with asgfn.enable_x64():
        values = {n: float(f(jnp.asarray(VECTOR, np.float64))) for n, f in PROGRAMS.items()}
    slopes = {n: central(f, VECTOR, np.cos(VECTOR), 1e-6) for n, f in PROGRAMS.items()}
    return values, slopes


@pytest.mark.parametrize("name", PROGRAMS)
def test_neutral_pairs(name, expected):
    f = PROGRAMS[name]
    for (a, first), (b, second) in itertools.product(NEUTRAL.items(), repeat=2):
        got = float(first(second(f))(jnp.asarray(VECTOR)))
        assert got == pytest.approx(expected[0][name], rel=2e-4, abs=1e-5), (a, b)


@pytest.mark.parametrize("name", PROGRAMS)
def test_derivatives_in_any_order(name, expected):
    f = PROGRAMS[name]
    for (a, derive), (b, neutral) in itertools.product(DERIVED.items(), NEUTRAL.items()):
        for order, g in ((f"{a} of {b}", derive(neutral(f))), (f"{b} of {a}", neutral(derive(f)))):
            assert float(g(jnp.asarray(VECTOR))) == pytest.approx(expected[1][name], rel=5e-3, abs=1e-3), order


@pytest.mark.parametrize("name", PROGRAMS)
def test_second_derivatives(name):
    f = PROGRAMS[name]
    direction = np.cos(VECTOR)
    with asgfn.enable_x64():
        slope = lambda x: jnp.sum(asgfn.grad(f)(x) * direction)
        want = central(slope, VECTOR, direction, 1e-5)
        x = jnp.asarray(VECTOR, np.float64)
        for (a, first), (b, second) in itertools.product(DERIVED.items(), repeat=2):
            got = float(asgfn.jit(first(second(f)))(x))
            assert got == pytest.approx(want, rel=1e-5, abs=1e-6), (a, b)
        hessian = asgfn.hessian(f)(x)
        np.testing.assert_allclose(hessian, np.asarray(hessian).T, rtol=1e-6, atol=1e-8)
        assert float(direction @ hessian @ direction) == pytest.approx(want, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", PROGRAMS)
def test_vmap_is_a_loop(name):
    f = PROGRAMS[name]
    rng = np.random.default_rng(1)
    xs = rng.normal(size=(3, 4)).astype(np.float32)
    want = [float(f(jnp.asarray(x))) for x in xs]
    np.testing.assert_allclose(asgfn.vmap(f)(xs), want, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(asgfn.vmap(f, in_axes=1)(xs.T), want, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(asgfn.jit(asgfn.vmap(asgfn.vmap(f)))(xs[None]), [want], rtol=2e-4, atol=1e-5)
    gradients = [np.asarray(asgfn.grad(f)(jnp.asarray(x))) for x in xs]
    np.testing.assert_allclose(asgfn.vmap(asgfn.grad(f))(xs), gradients, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("name", PROGRAMS)
def test_graphs_survive(name):
    f = PROGRAMS[name]
    x = jnp.asarray(VECTOR)
    for g in (f, asgfn.grad(f), asgfn.jit(asgfn.grad(f))):
        asg = asgfn.trace(g)(x)
        asg.validate()
        again = asgfn.trace(g)(x)
        assert again == asg and hash(again) == hash(asg)
        if name != "custom_forward":  # its rule is Python code, so only its values survive
            loaded = asgfn.Asg.from_bytes(asg.to_bytes())
            assert loaded == asg
        loaded = asgfn.Asg.from_bytes(asg.to_bytes())
        np.testing.assert_allclose(loaded(x), asg(x), rtol=1e-6)
        simple = asgfn.simplify(asg).validate()
        np.testing.assert_allclose(simple(x), asg(x), rtol=1e-5, atol=1e-6)
        assert str(asg).startswith("asg ")
