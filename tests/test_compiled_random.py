"""Random programs, and programs under transforms, on backends that compile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from tests.compiled_checks import backend_fixture, check, compare, cpu_fixture, gpu_fixture, values  # noqa: F401
from tests.programs import PROGRAMS, VECTOR
from tests.random_programs import make
from tests.test_fuse import random_program

DTYPES = ["float32", "int32", "uint8", "int16", "uint32"]


@pytest.mark.parametrize("seed", range(30))
def test_random_programs(backend: str, seed: int) -> None:
    dtype = DTYPES[seed % len(DTYPES)] if seed % 2 else "float32"
    choose = np.random.default_rng(100 + seed)
    f = random_program(seed, np.dtype(dtype), 6 + seed // 2)
    shapes = [(6, 6), (6, 6), ()]
    if dtype == "float32":
        args = [jnp.asarray(choose.standard_normal(shape).astype(dtype)) for shape in shapes]
    else:
        args = [jnp.asarray(choose.integers(0, 5, shape).astype(dtype)) for shape in shapes]
    with np.errstate(all="ignore"):
        largest = max(np.nanmax(np.abs(v), initial=1) for v in values(asgfn.jit(f)(*args)))
    check(f, *args, backend=backend, rtol=1e-3, atol=1e-6 * float(min(largest, 1e30)))


# every third is the gradient of a smooth program; every fourth gives its arguments away
@pytest.mark.parametrize("seed", range(45))
def test_random_programs_of_everything(backend: str, seed: int) -> None:
    f, args = make(seed)
    compare(f, args, backend, donate_argnums=tuple(range(len(args))) if seed % 4 == 1 else ())


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_under_transforms(backend: str, name: str) -> None:
    f = PROGRAMS[name]
    x = jnp.asarray(VECTOR)

    def everything(x: Any) -> Any:
        return (
            asgfn.value_and_grad(f)(x),
            asgfn.grad(asgfn.checkpoint(f))(x),
            asgfn.jvp(f, (x,), (jnp.cos(x),)),
            asgfn.vmap(f)(jnp.stack([x, x * 0.5])),
            asgfn.vmap(asgfn.grad(f))(jnp.stack([x, x * 0.5])),
        )

    check(everything, x, backend=backend, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["elementwise", "contraction", "normalised", "scanned"])
def test_second_derivatives(backend: str, name: str) -> None:
    check(asgfn.jacfwd(asgfn.grad(PROGRAMS[name])), jnp.asarray(VECTOR), backend=backend, rtol=1e-3, atol=1e-3)
