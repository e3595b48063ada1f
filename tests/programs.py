"""Programs that tests push through transforms: scalar functions of one vector, together covering what programs are made of."""

from __future__ import annotations

import numpy as np

import asgfn
import asgfn.numpy as jnp
from asgfn import lax

MATRIX = np.linspace(-0.7, 0.9, 12, dtype=np.float32).reshape(3, 4)
KERNEL = np.linspace(-1, 1, 3, dtype=np.float32)
VECTOR = np.array([0.3, -0.8, 1.1, 0.5], np.float32)


def elementwise(x):
    return jnp.sum(jnp.sin(x) * jnp.exp(-x * x) + jnp.tanh(x) / (1 + x**2))


def python_branch(x):
    y = x * 2
    return jnp.sum(y * y) if x.ndim == 1 else jnp.sum(y)


def contraction(x):
    return jnp.sum(jnp.tanh(MATRIX @ x) ** 3)


def normalised(x):
    z = (x - x.mean()) / jnp.sqrt(x.var() + 1e-3)
    return jnp.sum(asgfn.nn.softmax(z) * jnp.cos(x))


def indexing(x):
    y = x.at[1].set(x[0] * x[2]).at[np.array([0, 3])].add(x[np.array([2, 2])])
    return jnp.sum(y[::-1] * x**2) + lax.dynamic_slice(x, (1,), (2,)).sum() ** 2


def shaping(x):
    m = jnp.concatenate([x.reshape(2, 2), x.reshape(2, 2).T * 2]).T
    return jnp.sum(jnp.pad(m, ((1, 0), (0, 1)))[:, 1:] ** 3)


def selection(x):
    return jnp.sum(jnp.where(x > 0, x**3, jnp.sin(x))) + jnp.max(x) * jnp.min(x) + jnp.sum(jnp.clip(x, -0.5, 0.7) * x)


def sorting(x):
    return jnp.sum(jnp.sort(x) * np.arange(1, 5, dtype=np.float32)) + jnp.cumsum(x**2)[2]


def scanned(x):
    def body(c, v):
        c = jnp.tanh(c * v + x[0])
        return c, c * v

    c, ys = lax.scan(body, x[1], x)
    return c + jnp.sum(ys**2)


def looped(x):
    return lax.fori_loop(0, 4, lambda i, c: jnp.sin(c) * x[i] + c, x[0] * 1.5)


def bounded_while(x):
    def go(c):
        return c[0] < 3

    return lax.while_loop(go, lambda c: (c[0] + 1, c[1] * jnp.sum(jnp.cos(x))), (0, x[1]), max_steps=6)[1]


def branched(x):
    first = lax.cond(x[0] > 0, lambda v: jnp.sum(v**2), lambda v: jnp.sum(jnp.sin(v)), x)
    return first + lax.switch(1, [jnp.sum, lambda v: jnp.prod(v), jnp.max], x)


@asgfn.custom_jvp
def _soft(x):
    return jnp.log1p(jnp.exp(x))


@_soft.defjvp
def _soft_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return _soft(x), t * asgfn.nn.sigmoid(x)


def custom_forward(x):
    return jnp.sum(_soft(x) * x)


def convolved(x):
    return jnp.sum(jnp.convolve(x, KERNEL, mode="same") ** 2)


def nested_calls(x):
    inner = asgfn.jit(lambda a: jnp.sin(a) * x[1])
    mapped = asgfn.vmap(lambda a: inner(a) ** 2)(x)
    return jnp.sum(mapped * asgfn.grad(lambda a: jnp.sum(a**3))(x))


def checkpointed(x):
    return jnp.sum(asgfn.checkpoint(lambda a: jnp.sin(jnp.sin(a)) * x)(x))


def collective(x):
    return jnp.sum(asgfn.vmap(lambda a: (a - lax.pmean(a, "i")) ** 2 * lax.psum(a, "i"), axis_name="i")(x))


PROGRAMS = {
    f.__name__: f
    for f in (
        elementwise, python_branch, contraction, normalised, indexing, shaping, selection, sorting, scanned, looped, bounded_while,
        branched, custom_forward, convolved, nested_calls, checkpointed, collective,
    )
}  # fmt: skip
