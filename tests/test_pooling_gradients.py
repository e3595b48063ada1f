"""Gradients of pooling on the compiled CPU, whose windows overlap or lie apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import asgfn
from asgfn import jit, lax

# spatial shape, window, stride, padding
CASES = [
    ((9, 112), (3, 3), (2, 2), [(1, 1), (1, 1)]),
    ((8, 64), (2, 2), (2, 2), [(0, 0), (0, 0)]),
    ((11, 75), (3, 4), (3, 3), [(1, 2), (0, 2)]),
    ((5, 200), (2, 5), (1, 4), [(0, 0), (2, 1)]),
    ((7, 50), (3, 2), (2, 5), [(1, 1), (0, 0)]),
    ((130,), (3,), (2,), [(1, 0)]),
    ((2500,), (3,), (2,), [(1, 1)]),
    ((3, 4, 33), (2, 2, 3), (2, 1, 2), [(0, 0), (1, 0), (1, 1)]),
]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("op", ["max", "add"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients(case: Any, op: str, dtype: Any) -> None:
    space, window, stride, padding = case
    rng = np.random.default_rng(0)
    with asgfn.enable_x64(dtype is np.float64):
        # few numbers: windows have ties
        x = rng.integers(-4, 5, (2, 3, *space)).astype(dtype)
        start, combine = (-np.inf, lax.max) if op == "max" else (0.0, lax.add)

        def pool(x: Any) -> Any:
            return lax.reduce_window(
                x, np.asarray(start, dtype), combine, (1, 1, *window), (1, 1, *stride), [(0, 0), (0, 0), *padding]
            )

        y = np.asarray(jit(pool, backend="numpy")(x))
        g = rng.standard_normal(y.shape).astype(dtype)
        program = jit(lambda x, g: asgfn.vjp(pool, x)[1](g)[0], backend="cpu").lower(x, g).compile()
        assert program.host_nodes == []
        found = np.asarray(program(x, g))
        wanted = np.asarray(jit(lambda x, g: asgfn.vjp(pool, x)[1](g)[0], backend="numpy")(x, g))
        limit = {np.float16: 4e-3, np.float32: 1e-6, np.float64: 1e-14}[dtype]
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=limit, atol=limit)
        np.testing.assert_array_equal(np.asarray(jit(pool, backend="cpu")(x)), y)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.bool_])
def test_elements_that_were_moved_apart(dtype: Any) -> None:
    x = np.random.default_rng(0).integers(0, 2, (3, 5, 40)).astype(dtype)
    for spread, window, padding in [(2, 3, (1, 2)), (3, 2, (0, 4)), (2, 4, (3, 0)), (3, 7, (5, 5))]:

        def pool(x: Any, spread: int = spread, window: int = window, padding: Any = padding) -> Any:
            return lax.reduce_window(
                x, np.asarray(False, dtype), lax.max, (1, 1, window), (1, 1, 1), [(0, 0), (0, 0), padding],
                base_dilation=(1, 1, spread),
            )  # fmt: skip

        np.testing.assert_array_equal(jit(pool, backend="cpu")(x), jit(pool, backend="numpy")(x))
