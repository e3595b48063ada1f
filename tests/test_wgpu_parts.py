"""Arrays that are larger than what a kernel can see at once: computed in parts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, nn
from asgfn.graph import validate
from asgfn.transforms.fuse import fuse_graph
from asgfn.transforms.simplify import simplify
from backends.wgpu import WgpuBackend, cutting
from tests.software_gpu import gpu_fixture  # noqa: F401
from tests.wgpu_checks import array, assert_same

rng = np.random.default_rng(3)
LIMIT = 1 << 16  # bytes
N = 1000  # rows of the arrays below: 3 to 5 parts


@pytest.fixture(scope="module", name="small")
def small_fixture(gpu: Any) -> Any:
    """A GPU whose kernels see 64 KiB of an array."""
    backend = WgpuBackend(limits=f"binding={LIMIT}")
    asgfn.register_backend("wgpu_small_bindings", lambda: backend)
    return backend


def check(f: Callable, *args: Any, on_host: tuple[str, ...] = (), **tolerance: float) -> Any:
    """A function gives there what it gives with NumPy, without its help. Returns the compiled program."""
    compiled = asgfn.jit(f, backend="wgpu_small_bindings").lower(*args).compile()
    assert tuple(text.split(":")[0] for text in compiled.host_nodes) == on_host
    want = asgfn.jit(f, backend="numpy")(*args)
    for _ in range(2):
        assert_same(compiled(*args), want, **tolerance)
    return compiled


CASES: dict[str, tuple[Callable, tuple]] = {
    "element-wise": (lambda x, y: jnp.tanh(x) * y + 1, (array(rng, N, 70), array(rng, N, 70))),
    "broadcast row": (lambda x, b: x + b, (array(rng, N, 70), array(rng, 70))),
    "broadcast column": (lambda x, b: x * b[:, None], (array(rng, N, 70), array(rng, N))),
    "odd vector": (lambda x: x * 2, (array(rng, 100_003),)),
    "leading axes of one": (lambda x: jnp.exp(x), (array(rng, 1, 1, N, 70),)),
    "reshape": (lambda x: (x.reshape(N, 5, 14) + 1).reshape(N * 5, 14), (array(rng, N, 70),)),
    "two results": (lambda x: (x + 1, (x * x).sum(1)), (array(rng, N, 70),)),
    "softmax": (lambda x: nn.softmax(x), (array(rng, N, 70),)),
    "layer norm": (lambda x: nn.standardize(x), (array(rng, N, 70),)),
    "argmax": (lambda x: jnp.argmax(x, 1), (array(rng, N, 70),)),
    "matrix product": (lambda x, w: nn.relu(x @ w), (array(rng, N, 70), array(rng, 70, 40))),
    "batches of matrices": (lambda x, y: x @ y, (array(rng, 50, 20, 30), array(rng, 50, 30, 20))),
    "product with itself": (lambda x: x @ x.T, (array(rng, 200, 40),)),
    "embedding": (lambda w, i: w[i], (array(rng, 30, 70), jnp.asarray(rng.integers(0, 30, N)))),
    "sort": (lambda x: jnp.sort(x, 1), (array(rng, N, 70),)),
    "cumulative": (lambda x: jnp.cumsum(x, 1), (array(rng, N, 70),)),
    "pad, reverse, concatenate": (
        lambda x: jnp.concatenate([jnp.pad(x, ((0, 0), (1, 2))), x[:, ::-1]], 1) * 2,
        (array(rng, N, 70),),
    ),
    "convolution": (
        lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "SAME"),
        (array(rng, 20, 3, 16, 16), array(rng, 4, 3, 3, 3)),
    ),
    "half": (lambda x: x.astype(jnp.float32) * 2, (array(rng, N, 70).astype(jnp.float16),)),
    "numbers of rows": (lambda x: x + jnp.arange(N)[:, None], (array(rng, N, 70),)),
    "mask": (lambda x: jnp.where(jnp.arange(N)[:, None] % 7 < jnp.arange(70), x, 0), (array(rng, N, 70),)),
    "sum of all": (lambda x: (x * 2).sum(), (array(rng, N, 70),)),
    "sum of rows": (lambda x: x.sum(0), (array(rng, N, 70),)),
    "extrema of columns": (lambda x: (x.max(0), x.min(0), (x > -3).all(0), (x > 3).any(0)), (array(rng, N, 70),)),
    "product of transposed": (lambda x, y: x.T @ y, (array(rng, N, 70), array(rng, N, 30))),
    "large product of transposed": (lambda x, y: jnp.maximum(x.T @ y, 0), (array(rng, 10, 300), array(rng, 10, 200))),
    "vector product": (lambda x, y: x @ y, (array(rng, 100_003), array(rng, 100_003))),
}


@pytest.mark.parametrize("name", CASES)
def test_in_parts(name: str, small: Any) -> None:
    f, args = CASES[name]
    check(f, *args, rtol=1e-4, atol=2e-3 if "vector" in name or "sum" in name else 1e-4)


def test_gradients_of_a_layer(small: Any) -> None:
    def loss(w: Any, b: Any, x: Any) -> Any:
        return (nn.gelu(x @ w + b) ** 2).mean()

    args = array(rng, 70, 40), array(rng, 40), array(rng, N, 70)
    compiled = check(asgfn.value_and_grad(loss, (0, 1, 2)), *args, rtol=1e-3, atol=1e-4)
    assert max(k.times for k in compiled.kernels) == 1


def test_donated_arguments(small: Any) -> None:
    f = asgfn.jit(lambda p, g: p - 0.1 * g, backend="wgpu_small_bindings", donate_argnums=0)
    p, g = array(rng, N, 70), array(rng, N, 70)
    want = p - 0.1 * g
    for _ in range(2):
        assert_same(f(p.copy(), g), want)


def test_what_goes_on_with_a_sum(small: Any) -> None:
    def f(x: Any, w: Any) -> Any:
        return jnp.tanh((x * x).sum(0)) + 1, jnp.sqrt((x.T @ x) / N + w)

    check(f, array(rng, N, 70), jnp.full((70, 70), 2.0), rtol=1e-4, atol=1e-4)


def test_what_cannot_be_cut_runs_on_the_host(small: Any, caplog: pytest.LogCaptureFixture) -> None:
    x = array(rng, 200, 180)
    with caplog.at_level(logging.WARNING, "asgfn"):
        compiled = check(lambda x: jnp.sort(x, 0), x, on_host=("sort",))
    assert "larger than the 65,536 bytes that a kernel can see" in compiled.host_nodes[0]
    assert "in parts along its first axis" in caplog.text
    check(lambda x: x.reshape(2, -1) * 2, array(rng, N, 70), on_host=("mul",))  # a row is too large already


def test_parts_are_valid_graphs(small: Any) -> None:
    def f(x: Any, b: Any) -> Any:
        return nn.softmax(x + b).reshape(N, 7, 10).transpose(0, 2, 1) * jnp.arange(N)[:, None, None]

    asg = asgfn.jit(f).lower(array(rng, N, 70), array(rng, 70)).compile().asg
    (node,) = fuse_graph(simplify(asg)).nodes
    graph = node.params["asg"]
    for some, start in ((300, 0), (100, 900)):
        part = cutting.cut(node, graph.inputs, [0] * len(graph.outputs), N, some, start)
        inner = part.node.params["asg"]
        validate(inner)
        assert all(t.shape[0] == some for t in inner.out_types)
    with pytest.raises(cutting.NotCut):
        cutting.cut(node, graph.inputs, [1] * len(graph.outputs), 10, 5)
