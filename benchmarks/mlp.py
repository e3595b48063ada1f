"""MLP 784-512-512-10, batch 128, one Adam step; NumPy's is written by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from benchmarks.timing import best_of, peak_memory, timed

SIZES = (784, 512, 512, 10)
BATCH = 128


def data() -> tuple[list, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    params = [
        (rng.normal(0, 1 / np.sqrt(a), (a, b)).astype(np.float32), np.zeros(b, np.float32))
        for a, b in itertools.pairwise(SIZES)
    ]
    return (
        params,
        rng.normal(size=(BATCH, SIZES[0])).astype(np.float32),
        rng.integers(0, SIZES[-1], BATCH).astype(np.int32),
    )


def _step(lib: Any, jnp: Any, donate: bool = True, **options: Any) -> dict[str, float]:
    params, x, y = data()
    params, x, y = lib.tree.map(jnp.asarray, (params, x, y))

    def loss_fn(params, x, y):
        h = x
        for w, b in params[:-1]:
            h = lib.nn.relu(h @ w + b)
        w, b = params[-1]
        logp = lib.nn.log_softmax(h @ w + b)
        return -jnp.mean(jnp.take_along_axis(logp, y[:, None], axis=1))

    def step(params, m, v, t, x, y):
        loss, g = lib.value_and_grad(loss_fn)(params, x, y)
        t = t + 1
        m = lib.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = lib.tree.map(lambda v, g: 0.999 * v + 0.001 * (g * g), v, g)
        c1 = 1 / (1 - 0.9**t)
        c2 = 1 / jnp.sqrt(1 - 0.999**t)
        params = lib.tree.map(lambda p, m, v: p - 1e-3 * (m * c1) / (jnp.sqrt(v) * c2 + 1e-8), params, m, v)
        return params, m, v, t, loss

    jitted = lib.jit(step, donate_argnums=(0, 1, 2) if donate else (), **options)
    zeros = lambda: lib.tree.map(jnp.zeros_like, params)
    state = [lib.tree.map(lambda a: a + 0, params), zeros(), zeros(), jnp.float32(0)]
    first = timed(
        lambda: lib.block_until_ready(
            jitted(lib.tree.map(lambda a: a + 0, params), zeros(), zeros(), jnp.float32(0), x, y)
        )
    )

    def once() -> None:
        out = jitted(*state, x, y)
        lib.block_until_ready(out)
        state[:] = out[:4]

    return {"step (ms)": best_of(once, 3.0) * 1e3, "first call (s)": first, "peak memory (MB)": peak_memory()}


def ours() -> dict[str, float]:
    import asgfn
    import asgfn.numpy as jnp

    return _step(asgfn, jnp)


def jax() -> dict[str, float]:
    import jax
    import jax.numpy as jnp

    return _step(jax, jnp)


def numpy() -> dict[str, float]:
    params, x, y = data()
    weights = [p for pair in params for p in pair]
    m = [np.zeros_like(p) for p in weights]
    v = [np.zeros_like(p) for p in weights]
    t = 0

    def once() -> None:
        nonlocal t
        (w1, b1, w2, b2, w3, b3) = weights
        a1 = x @ w1 + b1
        h1 = np.maximum(a1, 0)
        a2 = h1 @ w2 + b2
        h2 = np.maximum(a2, 0)
        z = h2 @ w3 + b3
        z -= z.max(1, keepdims=True)
        e = np.exp(z)
        p = e / e.sum(1, keepdims=True)
        _ = -np.mean(np.log(p[np.arange(BATCH), y]))
        dz = p
        dz[np.arange(BATCH), y] -= 1
        dz /= BATCH
        g = [None] * 6
        g[4], g[5] = h2.T @ dz, dz.sum(0)
        d2 = (dz @ w3.T) * (a2 > 0)
        g[2], g[3] = h1.T @ d2, d2.sum(0)
        d1 = (d2 @ w2.T) * (a1 > 0)
        g[0], g[1] = x.T @ d1, d1.sum(0)
        t += 1
        c1, c2 = np.float32(1 / (1 - 0.9**t)), np.float32(1 / np.sqrt(1 - 0.999**t))
        for i in range(6):
            m[i] = 0.9 * m[i] + 0.1 * g[i]
            v[i] = 0.999 * v[i] + 0.001 * (g[i] * g[i])
            weights[i] = weights[i] - 1e-3 * (m[i] * c1) / (np.sqrt(v[i]) * c2 + 1e-8)

    return {"step (ms)": best_of(once, 3.0) * 1e3, "peak memory (MB)": peak_memory()}


VARIANTS = {"asgfn": ours, "numpy": numpy, "jax": jax}
