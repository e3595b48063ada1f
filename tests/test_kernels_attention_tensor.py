"""Attention on tensor cores, with matrices emulated on the software GPU, against the NumPy backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import nn, tree
from asgfn.graph.asg import Asg
from backends.kernels.attention_match import recognise
from backends.kernels.lowering import Plan, lower
from backends.kernels.schedules.attention_tensor import partition
from backends.kernels.schedules.attention_tiles import (
    tensor_backward_tilings,
    tensor_forward_bytes,
    tensor_forward_tiling,
    tensor_keys_bytes,
    tensor_queries_bytes,
)
from backends.kernels.target import MatrixShape, Target
from backends.kernels.types import Types
from backends.wgsl import DAWN, source
from nn_fn import functional as F
from tests import attention_programs
from tests.attention_programs import causal, pulled
from tests.kernel_checks import needs_device
from tests.kernel_runner import device, run_graph

needs_device()

SHAPE = MatrixShape("f16", "f32", 16, 16, 16)
TYPES = Types(half=True)
LARGE = Target(types=TYPES, workgroup_bytes=49152, buffers=12, subgroup=(32, 32), subgroup_matrix=(SHAPE,))
# the smallest tiles for heads of 16: emulated matrices take long to compile
TINY = Target(types=TYPES, workgroup_bytes=8192, buffers=12, subgroup=(32, 32), subgroup_matrix=(SHAPE,))
SMALL = Target(types=TYPES, workgroup_bytes=32768, buffers=12, subgroup=(32, 32), subgroup_matrix=(SHAPE,))
sdpa = F.scaled_dot_product_attention
rng = np.random.default_rng(11)


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


qkv = partial(attention_programs.qkv, normal)


def with_result(f: Callable, *args: np.ndarray, scale: float = 1.0) -> tuple[np.ndarray, ...]:
    """Arguments, and a gradient of the result."""
    t = asgfn.trace(f)(*args).out_types[0]
    return (*args, (rng.standard_normal(t.shape) * scale).astype(t.dtype))


def plans(found: Asg, target: Target) -> list[Plan]:
    types = found.value_types
    nodes = [node for node in found.nodes if "form" in node.params]
    made = [lower(node, [types[i] for i in node.inputs], target) for node in nodes]
    return [plan for plan in made if plan is not None]


def names(found: Asg, target: Target) -> list[str]:
    return [stage.kernel.name for plan in plans(found, target) for stage in plan.stages]


def run(f: Callable, *args: Any, target: Target = TINY) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What tensor cores give, and NumPy."""
    if "shader-f16" not in device().features or "subgroup" not in device().features:
        pytest.skip("the adapter has no 16-bit floats or no subgroups")
    asg = asgfn.simplify(asgfn.trace(f)(*args))
    found = recognise(asg, target)
    assert all("tensor" in name for name in names(found, target)) and names(found, target)
    for plan in plans(found, target):
        for stage in plan.stages:
            shared = stage.kernel.shared
            used = sum((2 if m.dtype == "f16" else 4) * m.size * m.width for m in shared)
            assert used <= target.workgroup_bytes
    leaves = [np.asarray(x) for x in tree.leaves(args)]
    results = run_graph(found, leaves, target=target)
    assert not run_graph.host  # type: ignore[attr-defined]
    with np.errstate(all="ignore"):
        expected = asgfn.get_backend("numpy").compile(asg)(leaves)
    return results, [np.asarray(x) for x in expected]


def check(f: Callable, *args: Any, target: Target = TINY, tolerance: float = 2e-3) -> None:
    """Asserts that each result is right, relative to its largest element."""
    for x, y in zip(*run(f, *args, target=target), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        assert np.all(np.isfinite(x))
        scale = float(np.max(np.abs(y.astype(np.float64))))
        error = np.max(np.abs(x.astype(np.float64) - y.astype(np.float64)))
        assert error <= tolerance * scale, (error, scale)


# ---------------------------------------------------------------------------------------------- sizes
@pytest.mark.parametrize("sizes", [(1, 1, 16, 16, 16, 16), (1, 2, 65, 40, 16, 16), (2, 1, 33, 70, 16, 16)])
@pytest.mark.parametrize("f", [sdpa, causal])
def test_sizes(f: Callable, sizes: tuple[int, ...]) -> None:
    check(pulled(f), *with_result(f, *qkv(*sizes)))


@pytest.mark.parametrize("sizes", [(1, 1, 40, 50, 32, 32), (1, 1, 33, 40, 16, 48)])
def test_heads(sizes: tuple[int, ...]) -> None:
    check(pulled(causal), *with_result(causal, *qkv(*sizes)), target=LARGE)


def test_large_tiles() -> None:
    check(causal, *qkv(1, 1, 70, 80, 64), target=LARGE)


def test_small_grids() -> None:
    target = Target(**{**vars(TINY), "grid": 3})
    check(pulled(causal), *with_result(causal, *qkv(2, 2, 40, 40, 16)), target=target)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_gradient_of_one_operand(number: int) -> None:
    args = qkv(1, 2, 40, 48, 16)
    chosen = asgfn.grad(lambda q, k, v: (sdpa(q, k, v) ** 2).sum(), argnums=number)
    if number == 2:  # of values alone: then the weights are needed, and no more
        chosen = asgfn.grad(lambda q, k, v: (sdpa(q, k, v) ** 2).sum(), argnums=(0, 2))
    # factors of 11 bits alone, with everything else exact, are wrong by up to 2e-3 with this loss
    check(chosen, *args, tolerance=4e-3)


# ---------------------------------------------------------------------------------------------- expressions
def test_masks_and_bias() -> None:
    q, k, v = qkv(2, 2, 40, 50, 16)
    seen = rng.random((2, 1, 40, 50)) > 0.5
    seen[0, 0, 3] = False  # a query that sees nothing gives zeros

    def f(q: Any, k: Any, v: Any) -> Any:
        return sdpa(q, k, v, seen)

    check(pulled(f), *with_result(f, q, k, v))
    bias = normal(2, 1, 40, 50)
    check(pulled(sdpa), *with_result(sdpa, q, k, v, bias))


def test_capped_scores() -> None:
    def f(q: Any, k: Any, v: Any) -> Any:
        return nn.softmax(jnp.tanh(q @ k.swapaxes(-1, -2) / 5) * 5) @ v

    check(pulled(f), *with_result(f, *qkv(1, 2, 40, 40, 16)))


def test_layouts() -> None:
    q, k, v = normal(2, 33, 4, 16), normal(2, 45, 2, 16), normal(2, 45, 2, 16)

    def window(q: Any, k: Any, v: Any) -> Any:
        return nn.dot_product_attention(q, k, v, local_window_size=(7, 5))

    check(pulled(window), *with_result(window, q, k, v))

    def grouped(q: Any, k: Any, v: Any) -> Any:
        return sdpa(q, k, v, is_causal=True, enable_gqa=True)

    check(pulled(grouped), *with_result(grouped, normal(2, 6, 33, 16), normal(2, 3, 45, 16), normal(2, 3, 45, 16)))

    def joined(x: Any) -> Any:
        q, k, v = (t.reshape(2, 33, 2, 16).swapaxes(1, 2) for t in jnp.split(x, 3, axis=-1))
        return causal(q, k, v).swapaxes(1, 2).reshape(2, 33, 32)

    check(pulled(joined, 1), *with_result(joined, normal(2, 33, 96)))


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_short_floats(dtype: Any) -> None:
    args = [x.astype(dtype) for x in qkv(1, 2, 40, 40, 16)]
    check(pulled(causal), *with_result(causal, *args), tolerance=1e-2 if dtype == np.float16 else 4e-2)


# ---------------------------------------------------------------------------------------------- extreme numbers
@pytest.mark.parametrize(
    "scales", [(1e30, 1e-30, 1e30, 1e-30), (1e-30, 1e30, 1e-30, 1e-6), (1e-4, 1e4, 1e30, 1e-5), (1e-12, 1e12, 1e-25, 1)]
)
def test_any_scale(scales: tuple[float, ...]) -> None:
    args = [(x * s).astype(np.float32) for x, s in zip(qkv(1, 1, 40, 50, 16), scales, strict=False)]
    check(causal, *args)
    # gradients of queries and keys are as large as the other operand
    check(pulled(causal), *with_result(causal, *args, scale=scales[3]))


def test_rows_of_different_scales() -> None:
    """A row of values, or keys, that is small beside others keeps its precision."""
    q, k, v = qkv(1, 1, 40, 48, 16)
    rows = (np.float32(2.0) ** rng.integers(-20, 20, 48))[:, None].astype(np.float32)
    k *= np.minimum(rows, 1)
    v *= rows
    # large values have small weights, so that all of them matter
    bias = np.broadcast_to(-np.log(rows).reshape(48), (40, 48)).astype(np.float32)

    def f(q: Any, k: Any, v: Any, bias: Any) -> Any:
        return sdpa(q, k, v, bias)

    results, expected = run(f, q, k, v, bias)
    scores = q.astype(np.float64) @ k.swapaxes(-1, -2) / 4 + bias
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    terms = weights / weights.sum(-1, keepdims=True) @ np.abs(v)
    assert np.max(np.abs(results[0] - expected[0]) / terms) < 1e-3
    check(pulled(f), *with_result(f, q, k, v, bias))


def test_large_scores() -> None:
    q, k, v = qkv(1, 1, 40, 48, 16)
    q = np.round(q * 4) * 64  # exact products: which of the keys has all the weight does not depend on rounding
    check(causal, q, np.round(k * 4), v)


def test_zeros() -> None:
    q, k, v = qkv(1, 1, 32, 32, 16)
    check(causal, np.zeros_like(q), k, v)
    results, _ = run(pulled(causal), *with_result(causal, q, k, np.zeros_like(v)))
    assert all(np.all(x == 0) for x in results[:3])


def test_what_is_masked_may_be_anything() -> None:
    """Keys that no query sees: infinities and NaN in them, and in others' masked places."""
    q, k, v = qkv(1, 1, 40, 48, 16)
    seen = np.ones((40, 48), bool)
    seen[:, [3, 17, 40]] = False
    k[0, 0, 3, 2], k[0, 0, 17, 5], k[0, 0, 40] = np.inf, np.nan, 3e38

    def f(q: Any, k: Any, v: Any) -> Any:
        return sdpa(q, k, v, seen)

    check(f, q, k, v)


def test_numbers_that_are_not_finite() -> None:
    """They spoil what they would with IEEE arithmetic, and the rest is as precise as ever."""
    q, k, v = qkv(1, 2, 40, 48, 16)
    q[0, 0, 3, 2], q[0, 0, 5, 0], v[0, 0, 7, 3], v[0, 1, 9, 1] = np.nan, np.inf, np.inf, np.nan
    args = with_result(sdpa, q, k, v)
    for x, y in zip(*run(pulled(sdpa), *args), strict=True):
        np.testing.assert_array_equal(np.isfinite(x), np.isfinite(y))
        good = np.isfinite(y)
        np.testing.assert_allclose(x[good], y[good], atol=2e-3 * np.max(np.abs(y[good]), initial=0.0))


# ---------------------------------------------------------------------------------------------- which schedule
def kernels(precision: Any, target: Target = LARGE, size: int = 16, rows: int = 32) -> list[str]:
    def f(q: Any, k: Any, v: Any) -> Any:
        scores = jnp.matmul(q, k.swapaxes(-1, -2), precision=precision)
        return jnp.matmul(nn.softmax(scores), v, precision=precision)

    args = with_result(f, *qkv(1, 1, rows, 32, size))
    return names(recognise(asgfn.simplify(asgfn.trace(pulled(f))(*args)), target), target)


def test_precision_decides() -> None:
    assert kernels(None) == kernels("default")
    assert kernels(None) == [
        "attention on tensor cores 32x32",
        "attention gradient on tensor cores 32x32 of queries",
        "attention gradient on tensor cores 32x32 of keys and values",
    ]
    for plain in (
        kernels("high"),
        kernels("highest"),
        kernels(None, Target(types=TYPES, workgroup_bytes=49152, buffers=12)),
        kernels(None, Target(**{**vars(LARGE), "subgroup": (16, 32)})),
        kernels(None, Target(**{**vars(LARGE), "types": Types()})),
        kernels(None, size=20),
        kernels(None, rows=9),
    ):
        assert len(plain) == 3 and not any("tensor" in name for name in plain)


def test_tiles_fit() -> None:
    for size in range(16, 129, 16):
        for target in (SMALL, LARGE):
            one = tensor_forward_tiling(256, 256, size, size, target)
            assert one is None or tensor_forward_bytes(one, size, size) <= target.workgroup_bytes
            two = tensor_backward_tilings(256, 256, size, size, target)
            if two is not None:
                assert tensor_queries_bytes(two[0], size, size) <= target.workgroup_bytes
                assert tensor_keys_bytes(two[1], size, size) <= target.workgroup_bytes
            assert target is SMALL or (one is not None and two is not None)


def test_subgroups_share_results() -> None:
    assert partition(64, 64, 4) == (2, 2, 2, 2)
    assert partition(64, 16, 4) == (4, 1, 1, 1)
    assert partition(32, 128, 4, 2) == (2, 2, 1, 4)
    assert partition(16, 48, 4) == (1, 3, 1, 1)
    assert partition(16, 16, 4) == (1, 1, 1, 1)


def test_text_for_dawn() -> None:
    asg = asgfn.simplify(asgfn.trace(causal)(*qkv(1, 1, 256, 256, 64)))
    (plan,) = plans(recognise(asg, LARGE), LARGE)
    text = source(plan.stages[0].kernel, DAWN)
    assert plan.stages[0].kernel.name == "attention on tensor cores 64x64"
    # two products in four steps along features, or keys: each of eight subgroups has two matrices
    assert text.count("subgroupMatrixMultiplyAccumulate(") == 16
    assert text.count("workgroupBarrier()") == 4
