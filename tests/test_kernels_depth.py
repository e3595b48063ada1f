"""Regions that are long chains: their code is written without running out of stack, or of a compiler's patience."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from backends.kernels.depth import room_for
from tests.software_gpu import gpu_fixture  # noqa: F401
from tests.wgpu_checks import array, check

LINKS: dict[str, Callable[[Any, Any], Any]] = {
    "element-wise": lambda x, y: x * 0.99 + y,
    "many uses": lambda x, y: jnp.tanh(x) - 0.5 * x,
    "transposed": lambda x, y: x.T + y,
    "shaped": lambda x, y: (x.reshape(2, 8) * 0.9).reshape(4, 4) + y,
    "moved": lambda x, y: jnp.pad(x[1:], ((0, 1), (0, 0))) + y,
    "selected": lambda x, y: jnp.where(x > 0, x - y, y),
    "sums of rows": lambda x, y: x - x.sum(1, keepdims=True) * 0.1,
    "sums of columns and rows": lambda x, y: x - x.sum(0) * 0.1 + x.max(1),
    "joined": lambda x, y: jnp.concatenate([x[:, 2:], x[:, :2] * 0.5], 1),
    "integers": lambda x, y: (x.astype("int32") ^ 5).astype("float32") * 0.5,
}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.usefixtures("gpu")
def test_long_chains(name: str) -> None:
    def f(x: Any, y: Any) -> Any:
        for _ in range(150):
            x = LINKS[name](x, y)
        return x

    rng = np.random.default_rng(0)
    check(f, array(rng, 4, 4), 0.1 * array(rng, 4, 4), rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("gpu")
def test_long_chain_and_its_gradient_in_little_stack() -> None:
    def f(x: Any) -> Any:
        for _ in range(200):
            x = lax.sin(x) * 1.001
        return x.sum()

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(500)
    try:
        check(asgfn.value_and_grad(f), jnp.linspace(-1, 1, 5), rtol=1e-3, atol=1e-3)
    finally:
        sys.setrecursionlimit(limit)


def test_limit_comes_back_when_nobody_needs_room() -> None:
    limit = sys.getrecursionlimit()
    started, ended = threading.Event(), threading.Event()

    def other() -> None:
        with room_for(5000):
            started.set()
            ended.wait()

    thread = threading.Thread(target=other)
    thread.start()
    started.wait()
    with pytest.raises(KeyError), room_for(10):
        assert sys.getrecursionlimit() > 5000
        raise KeyError
    assert sys.getrecursionlimit() > 5000
    ended.set()
    thread.join()
    assert sys.getrecursionlimit() == limit
