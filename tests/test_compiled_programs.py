"""Programs on backends that compile give what they give with NumPy."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import nn, tree
from tests.compiled_checks import array, assert_same, backend_fixture, check, cpu_fixture, finished, gpu_fixture  # noqa: F401

rng = np.random.default_rng(5)


# ---------------------------------------------------------------------------------------------- training
def network(params: Any, x: Any) -> Any:
    for w, b in params[:-1]:
        x = nn.relu(x @ w + b)
    w, b = params[-1]
    return x @ w + b


def loss(params: Any, x: Any, y: Any) -> Any:
    return -(nn.log_softmax(network(params, x)) * nn.one_hot(y, 3)).sum(-1).mean()


def adam_step(params: Any, state: Any, x: Any, y: Any) -> Any:
    value, grads = asgfn.value_and_grad(loss)(params, x, y)
    m, v, t = state
    t = t + 1
    m = tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
    v = tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
    rate = 1e-2 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    params = tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), params, m, v)
    return params, (m, v, t), value


def start() -> Any:
    sizes = [6, 16, 16, 3]
    params = [(0.3 * array(rng, a, b), jnp.zeros(b)) for a, b in pairwise(sizes)]
    zeros = tree.map(jnp.zeros_like, params)
    return params, (zeros, tree.map(jnp.zeros_like, params), jnp.float32(0))


def test_training_in_place(backend: str) -> None:
    params, state = start()
    x, y = array(rng, 8, 6), jnp.asarray(rng.integers(0, 3, 8).astype(np.int32))
    compiled = asgfn.jit(adam_step, backend=backend, donate_argnums=(0, 1))
    with_numpy = asgfn.jit(adam_step, backend="numpy")
    copies = tree.map(lambda a: a.copy(), (params, state))
    expected = params, state
    for _ in range(25):
        given = copies
        *copies, value = compiled(*copies, x, y)
        assert all(leaf.is_deleted() for leaf in tree.leaves(given) if leaf.ndim)
        *expected, expected_value = with_numpy(*expected, x, y)
    assert_same(value, expected_value, rtol=1e-3)
    assert_same(copies, expected, rtol=1e-3, atol=1e-4)


def test_weights_are_updated_in_place(backend: str) -> None:
    params, state = start()
    x, y = array(rng, 8, 6), jnp.zeros(8, jnp.int32)
    compiled = asgfn.jit(adam_step, backend=backend, donate_argnums=(0, 1)).lower(params, state, x, y).compile()
    for out, t in zip(finished(compiled).outputs, compiled.asg.out_types, strict=True):
        assert out.root.kind == "input" or t.ndim == 0
    plain = asgfn.jit(adam_step, backend=backend).lower(params, state, x, y).compile()
    assert compiled.memory["total"] < plain.memory["total"]


# ---------------------------------------------------------------------------------------------- what programs are made of
def test_softmax_layer_norm_and_attention(backend: str) -> None:
    def norm(x: Any) -> Any:
        return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)

    def attention(q: Any, k: Any, v: Any) -> Any:
        mask = jnp.tril(jnp.ones((q.shape[1], k.shape[1]), bool))
        scores = jnp.where(mask, q @ k.swapaxes(-1, -2) / 2.0, -jnp.inf)
        return nn.softmax(scores) @ v

    check(nn.softmax, array(rng, 5, 33), backend=backend)
    check(
        lambda x: asgfn.grad(lambda x: (norm(x) ** 3).sum())(x), array(rng, 4, 9), rtol=1e-3, atol=1e-4, backend=backend
    )
    args = [array(rng, 2, 5, 4) for _ in range(3)]
    check(attention, *args, backend=backend)
    check(
        asgfn.grad(lambda *a: (attention(*a) ** 2).sum(), argnums=(0, 1, 2)),
        *args,
        rtol=1e-3,
        atol=1e-4,
        backend=backend,
    )


def test_derivatives_of_derivatives(backend: str) -> None:
    def f(x: Any) -> Any:
        return jnp.sum(jnp.tanh(x) ** 3) + jnp.prod(x)

    x = array(rng, 4)
    check(asgfn.grad(f), x, backend=backend)
    check(asgfn.hessian(f), x, rtol=1e-4, atol=1e-4, backend=backend)
    check(asgfn.jacfwd(asgfn.jacrev(asgfn.grad(f))), x, rtol=1e-4, atol=1e-4, backend=backend)
    check(asgfn.vmap(asgfn.grad(f)), array(rng, 3, 4), backend=backend)


def test_random_numbers_are_the_same_bits(backend: str) -> None:
    def f(seed: Any) -> Any:
        key = asgfn.random.key(seed)
        a, b = asgfn.random.split(key)
        return asgfn.random.bits(a, (33,)), asgfn.random.uniform(b, (5,))

    check(f, jnp.uint32(7), rtol=0, atol=0, backend=backend)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "bfloat16"]
)
def test_dtypes_go_in_and_out(backend: str, dtype: str) -> None:
    values = jnp.asarray(rng.integers(0, 100, 37)).astype(dtype)
    check(lambda x: (x, x.reshape(1, -1), x[3:], x + x, x == x[::-1]), values, backend=backend)


def test_empty_arrays(backend: str) -> None:
    def f(x: Any) -> Any:
        none = x[:0]
        return (
            none + 1, jnp.concatenate([none, x, none]), none.sum(0), none.sum(), none @ jnp.ones((4, 2)), none.T @ none,
            jnp.pad(none, ((1, 1), (0, 0))), x.at[jnp.zeros(0, int)].add(1.0), jnp.sort(none), none.reshape(0, 2, 2),
            x.prod() + none.prod(), nn.softmax(none), jnp.argmax(x[:, :1], 1),
        )  # fmt: skip

    check(f, array(rng, 3, 4), backend=backend)
    check(lambda x: x * 2, jnp.zeros((0, 3)), backend=backend)


def test_program_that_does_nothing(backend: str) -> None:
    check(lambda x: x, array(rng, 3), backend=backend)
    check(lambda x, y: (y, x, x.reshape(3, 1), jnp.arange(4.0), 3.0), array(rng, 3), array(rng, 2), backend=backend)
    assert asgfn.jit(lambda: (), backend=backend)() == ()


def test_scalars_and_huge_values(backend: str) -> None:
    x = jnp.asarray([np.inf, -np.inf, np.nan, 3e38, 1.2e-38, -0.0, 0.0], jnp.float32)
    check(lambda x: (x * 2, x.max(), jnp.exp(x), 1 / x, jnp.sign(x), jnp.signbit(x)), x, backend=backend)


def test_operand_of_many_arrays(backend: str) -> None:
    xs = [array(rng, 2, k % 3 + 1) for k in range(75)]
    check(lambda *xs: jnp.concatenate(xs, 1), *xs, backend=backend)
    check(lambda *xs: sum(x.sum() for x in xs), *xs, rtol=1e-4, backend=backend)


def test_element_that_is_read_elsewhere_is_not_overwritten_too_early(backend: str) -> None:
    def f(x: Any) -> Any:
        return x + x[::-1]

    for n in (1, 7, 4096):
        x = array(rng, n)
        want = asgfn.jit(f, backend="numpy")(x)
        assert_same(asgfn.jit(f, backend=backend, donate_argnums=0)(x.copy()), want)
