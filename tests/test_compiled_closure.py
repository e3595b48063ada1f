"""Transforms compose on backends that compile: programs under pairs of transforms give what they give with NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from tests.compiled_checks import backend_fixture, check, cpu_fixture, gpu_fixture  # noqa: F401
from tests.programs import PROGRAMS, VECTOR
from tests.test_closure import DERIVED, NEUTRAL

# those that are done outside of `jit` say nothing about a backend
INSIDE: list[Any] = [NEUTRAL[name] for name in ("jit", "checkpoint", "fuse", "vmap and pick", "linearize", "vjp")]
KERNELS: list[Any] = [NEUTRAL[name] for name in ("checkpoint", "vmap and pick")]
TWICE: list[Any] = [DERIVED[name] for name in ("grad", "jvp", "jacrev")]


def rescaled(f: Callable) -> Callable:
    """Inputs that are not constants of the program, so that not everything is computed while it is compiled."""
    return lambda x, k: f(x * k)


def compared(functions: list[Callable], backend: str, rtol: float, atol: float) -> None:
    """Many functions as one program."""
    check(
        lambda x, k: [rescaled(f)(x, k) for f in functions],
        jnp.asarray(VECTOR),
        jnp.float32(1),
        backend=backend,
        rtol=rtol,
        atol=atol,
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_neutral_pairs(backend: str, name: str) -> None:
    f = PROGRAMS[name]
    compared([a(b(f)) for a, b in itertools.product(INSIDE, repeat=2)], backend, 2e-5, 1e-5)


@pytest.mark.parametrize("name", PROGRAMS)
def test_derivatives_in_any_order(backend: str, name: str) -> None:
    f = PROGRAMS[name]
    pairs = list(itertools.product(DERIVED.values(), KERNELS))
    compared([g for a, b in pairs for g in (a(b(f)), b(a(f)))], backend, 1e-4, 1e-4)


@pytest.mark.parametrize("name", PROGRAMS)
def test_second_derivatives(backend: str, name: str) -> None:
    f = PROGRAMS[name]
    pairs = itertools.product(TWICE, repeat=2)
    compared([*(a(b(f)) for a, b in pairs), asgfn.hessian(f)], backend, 1e-3, 1e-3)


@pytest.mark.parametrize("name", PROGRAMS)
def test_batches_of_batches(backend: str, name: str) -> None:
    f = PROGRAMS[name]
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32))

    def everything(xs: Any) -> Any:
        return (
            asgfn.vmap(f)(xs),
            asgfn.vmap(f, in_axes=1)(xs.T),
            asgfn.vmap(asgfn.vmap(f))(xs[None]),
            asgfn.vmap(asgfn.grad(f))(xs),
            asgfn.grad(lambda xs: asgfn.vmap(f)(xs).sum())(xs),
            asgfn.vmap(asgfn.grad(asgfn.checkpoint(asgfn.jit(f))))(xs),
        )

    check(everything, xs, backend=backend, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PROGRAMS)
def test_stored_graphs_run(backend: str, name: str) -> None:
    f = PROGRAMS[name]
    x = jnp.asarray(VECTOR)
    loaded = asgfn.Asg.from_bytes(asgfn.trace(asgfn.jit(f))(x).to_bytes())
    check(lambda x: loaded(x), x, backend=backend)
