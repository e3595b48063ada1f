"""Attention on the compiled CPU backend, forward and backward, against the NumPy backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import nn
from nn_fn import functional as F
from tests import attention_programs
from tests.attention_programs import causal, pulled
from tests.compiled_checks import check, cpu_fixture, values  # noqa: F401

pytestmark = pytest.mark.usefixtures("cpu")

sdpa = F.scaled_dot_product_attention
rng = np.random.default_rng(21)


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return jnp.asarray(rng.standard_normal(shape).astype(np.float32)).astype(dtype)


qkv = partial(attention_programs.qkv, normal)


def assert_attention(f: Callable, *args: Any, count: int = 3, tolerance: float = 2e-5) -> None:
    """The result and its gradients are right, and made by two kernels of attention."""
    t = asgfn.trace(f)(*args).out_types[0]
    whole = check(
        pulled(f, count), *args, normal(*t.shape, dtype=t.dtype), backend="cpu", rtol=tolerance, atol=tolerance
    )
    assert whole.as_text().count("; attention_gradient") == 1
    alone = check(f, *args, backend="cpu", rtol=tolerance, atol=tolerance)
    for compiled in (whole, alone):
        assert compiled.as_text().count("; attention:") == 1
        assert compiled.host_nodes == []


@pytest.mark.parametrize(
    "sizes",
    [
        (2, 3, 64, 64, 32), (1, 1, 2, 2, 1), (1, 2, 1, 70, 16), (1, 2, 70, 2, 16), (1, 1, 130, 600, 24, 40), (1, 1, 600, 130, 64),
        (3, 1, 17, 33, 5, 3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("f", [sdpa, causal])
def test_sizes(f: Callable, sizes: tuple[int, ...]) -> None:
    assert_attention(f, *qkv(*sizes), tolerance=1e-4)


def test_windows() -> None:
    def window(low: int, high: int) -> Callable:
        return lambda q, k, v: nn.dot_product_attention(q, k, v, local_window_size=(low, high))

    args = normal(1, 150, 4, 16), normal(1, 150, 2, 16), normal(1, 150, 2, 16)
    for low, high in ((7, 5), (0, 0), (100, 3), (3, 149)):
        assert_attention(window(low, high), *args, tolerance=5e-5)


def test_queries_that_share_keys() -> None:
    def grouped(q: Any, k: Any, v: Any) -> Any:
        return sdpa(q, k, v, is_causal=True, enable_gqa=True)

    assert_attention(grouped, normal(2, 6, 33, 16), normal(2, 3, 45, 16), normal(2, 3, 45, 16))
    assert_attention(grouped, normal(1, 8, 130, 16), normal(1, 1, 130, 16), normal(1, 1, 130, 16), tolerance=5e-5)


def test_one_array_of_queries_keys_and_values() -> None:
    def joined(x: Any) -> Any:
        q, k, v = (t.reshape(2, 33, 2, 16).swapaxes(1, 2) for t in jnp.split(x, 3, axis=-1))
        return causal(q, k, v).swapaxes(1, 2).reshape(2, 33, 32)

    assert_attention(joined, normal(2, 33, 96), count=1)


def test_operands_that_are_computed() -> None:
    def f(q: Any, k: Any, v: Any) -> Any:
        return nn.softmax(jnp.tanh(q) @ (k * 2).swapaxes(-1, -2)) @ v[..., ::-1]

    assert_attention(f, *qkv(1, 2, 70, 80, 24))


def test_masks_and_bias() -> None:
    q, k, v = qkv(2, 2, 40, 50, 16)
    seen = rng.random((2, 1, 40, 50)) > 0.5
    seen[0, 0, 3] = False  # a query that sees nothing gives zeros
    assert_attention(lambda q, k, v: sdpa(q, k, v, seen), q, k, v)
    assert_attention(sdpa, q, k, v, normal(2, 1, 40, 50))


def test_capped_scores() -> None:
    def f(q: Any, k: Any, v: Any) -> Any:
        return nn.softmax(jnp.tanh(q @ k.swapaxes(-1, -2) / 5) * 5) @ v

    assert_attention(f, *qkv(1, 2, 40, 300, 16))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_gradients_of_some_operands(number: int) -> None:
    chosen = (0, 2) if number == 2 else number
    f = asgfn.value_and_grad(lambda q, k, v: (sdpa(q, k, v) ** 2).sum(), argnums=chosen)
    compiled = check(f, *qkv(1, 2, 40, 48, 16), backend="cpu", rtol=5e-5, atol=5e-5)
    assert compiled.as_text().count("; attention_gradient") == 1


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 1e-2), (jnp.bfloat16, 5e-2)])
def test_short_floats(dtype: Any, tolerance: float) -> None:
    assert_attention(causal, *qkv(1, 2, 40, 40, 16, dtype=dtype), tolerance=tolerance)


def test_64_bit_floats_keep_their_precision() -> None:
    with asgfn.enable_x64():
        args = [x.astype("float64") for x in qkv(1, 2, 40, 40, 16)]
        check(pulled(causal), *args, args[0], backend="cpu", rtol=1e-12, atol=1e-12)


def test_what_is_masked_may_be_anything() -> None:
    q, k, v = (np.array(x) for x in qkv(1, 1, 40, 48, 16))
    seen = np.ones((40, 48), bool)
    seen[:, [3, 17, 40]] = False
    k[0, 0, 3, 2], k[0, 0, 17, 5], k[0, 0, 40] = np.inf, np.nan, 3e38
    check(lambda q, k, v: sdpa(q, k, v, seen), *map(jnp.asarray, (q, k, v)), backend="cpu")


def test_numbers_that_are_not_finite() -> None:
    q, k, v = (np.array(x) for x in qkv(1, 2, 40, 48, 16))
    q[0, 0, 3, 2], q[0, 0, 5, 0], v[0, 0, 7, 3], v[0, 1, 9, 1] = np.nan, np.inf, np.inf, np.nan
    check(sdpa, *map(jnp.asarray, (q, k, v)), backend="cpu")


def test_a_row_without_keys_is_nan_where_nothing_guards_it() -> None:
    seen = np.ones((8, 12), bool)
    seen[2] = False
    f = lambda q, k, v: nn.softmax(jnp.where(seen, q @ k.T, -np.inf)) @ v
    args = normal(8, 16), normal(12, 16), normal(12, 16)
    compiled = check(f, *args, backend="cpu")
    assert compiled.as_text().count("; attention:") == 1
    assert np.isnan(values(asgfn.jit(f, backend="cpu")(*args))[0][2]).all()


def test_no_memory_for_all_pairs() -> None:
    """Ten times as many positions take ten times the memory, not a hundred times."""

    def temporaries(n: int) -> int:
        args = [asgfn.ShapeDtypeStruct((1, 2, n, 16), np.float32)] * 4
        return asgfn.jit(pulled(causal), backend="cpu").lower(*args).compile().memory["temporaries"]

    assert temporaries(8192) <= 11 * temporaries(820)
