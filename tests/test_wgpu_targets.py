"""The same programs on GPUs of several kinds: one that has everything, the least that WebGPU promises, and in between."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, nn
from asgfn.records import replace
from backends.wgpu import WgpuBackend, limits
from tests.programs import PROGRAMS, VECTOR
from tests.random_programs import make
from tests.software_gpu import gpu_fixture  # noqa: F401
from tests.wgpu_checks import array, assert_same, compare

# what to keep to, and how many threads run in step (None: as few as the adapter says)
KINDS = {
    "everything": ("", None),
    "least": ("least", None),
    "ten buffers": ("threads=256,shared=16384,buffers=10", None),
    "four buffers": ("buffers=4,f16=0", None),
    "no subgroups": ("subgroups=0", None),
    "no f16": ("f16=0", None),
    "wide subgroups": ("", "lanes"),
}


@pytest.fixture(name="backend", scope="module", params=KINDS.values(), ids=KINDS)
def backend_fixture(request: pytest.FixtureRequest, gpu: Any) -> str:
    """The name of a backend of each kind."""
    most, subgroup = request.param
    backend = WgpuBackend(limits=most)
    device = backend.device
    if subgroup:
        bits = re.search(r"(\d+) bits", device.info.device_kind)  # Mesa's adapter says how wide its vectors are
        if bits is None or not device.target.subgroup[0]:
            pytest.skip("it is not known how many threads run in step")
        lanes = int(bits[1]) // 32
        device.target = replace(device.target, subgroup=(lanes, lanes))
    asgfn.register_backend("wgpu_kind", lambda: backend)
    return "wgpu_kind"


def check(backend: str, f: Callable, *args: Any, rtol: float = 2e-5, atol: float = 2e-5) -> Any:
    on_gpu = asgfn.jit(f, backend=backend)
    assert_same(on_gpu(*args), asgfn.jit(f, backend="numpy")(*args), rtol, atol)
    return on_gpu.lower(*args).compile()


def arrays(*shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(17)
    return [array(rng, *shape) for shape in shapes]


# ---------------------------------------------------------------------------------------------- what takes cooperation
def test_rows(backend: str) -> None:
    def f(x: Any) -> Any:
        d = x - x.mean(-1, keepdims=True)
        return (
            nn.softmax(x),
            d / jnp.sqrt((d * d).mean(-1, keepdims=True) + 1e-5),
            nn.logsumexp(x, 0),
            x.max(),
            x.argmax(-1),
        )

    for shape in ((3, 5000), (700, 7), (33, 130), (4, 1)):
        check(backend, f, *arrays(shape))


def test_sums_of_everything(backend: str) -> None:
    (x,) = arrays((200_003,))
    check(
        backend,
        lambda x: (x.sum(), (x * x).mean(), x.min(), jnp.argmin(x), jnp.any(x > 4), (x[:999] * 1e-3 + 1).prod()),
        x,
    )


def test_matrix_products(backend: str) -> None:
    def f(a: Any, b: Any, c: Any) -> Any:
        h = nn.relu(a @ b + c)
        return h, h.T @ a, jnp.einsum("ij,kj->ik", a, a).sum(0)

    for m, k, n in ((1, 5, 3), (65, 130, 33), (128, 64, 256), (3, 700, 2)):
        check(backend, f, *arrays((m, k), (k, n), (n,)), rtol=1e-4, atol=1e-3)


def test_batched_products_and_attention(backend: str) -> None:
    def attention(q: Any, k: Any, v: Any) -> Any:
        mask = jnp.tril(jnp.ones((q.shape[-2], k.shape[-2]), bool))
        return nn.softmax(jnp.where(mask, q @ k.swapaxes(-1, -2) / 4, -jnp.inf)) @ v

    q, k, v = arrays((2, 3, 37, 16), (2, 3, 37, 16), (2, 3, 37, 16))
    gradient = asgfn.grad(lambda *args: (attention(*args) ** 2).sum(), argnums=(0, 1, 2))
    check(backend, lambda *args: (attention(*args), gradient(*args)), q, k, v, rtol=1e-3, atol=1e-4)


def test_convolutions(backend: str) -> None:
    def f(x: Any, w: Any) -> Any:
        h = nn.relu(lax.conv_general_dilated(x, w, (1, 1), "SAME"))
        return lax.reduce_window(h, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID").sum((2, 3))

    x, w = arrays((2, 3, 13, 10), (20, 3, 3, 3))
    gradient = asgfn.grad(lambda *args: (f(*args) ** 2).mean(), argnums=(0, 1))
    check(backend, lambda *args: (f(*args), gradient(*args)), x, w, rtol=1e-3, atol=1e-4)


def test_scans_and_sorts(backend: str) -> None:
    def f(x: Any, i: Any) -> Any:
        return (
            jnp.cumsum(x, 1), lax.cummax(x, 0, reverse=True), jnp.sort(x, 1), jnp.argsort(x, 0), lax.top_k(x, 3), x[i], x.at[i].add(1.0),
            jnp.zeros((9, x.shape[1])).at[i % 9].max(x[i]), jnp.bincount(i, length=12),
        )  # fmt: skip

    for shape in ((5, 3001), (300, 4)):
        i = jnp.asarray(np.random.default_rng(1).integers(0, shape[0], 400).astype(np.int32))
        check(backend, f, *arrays(shape), i, atol=2e-3)


def test_16_bit_floats(backend: str) -> None:
    x, y = arrays((40, 65), (65, 24))
    for dtype in ("float16", "bfloat16"):
        f = lambda x, y: (nn.softmax(x), x @ y, x.sum(0), jnp.tanh(x)[::-1, 1:], x.max(1), (x > 0) & (x < 1))
        check(backend, f, x.astype(dtype), y.astype(dtype), rtol=2e-2, atol=4e-2)


def test_more_arrays_than_a_kernel_takes(backend: str) -> None:
    xs = arrays(*[(6, 5)] * 40)
    compiled = check(backend, lambda *xs: (sum(jnp.sin(x) for x in xs), [x * 2 for x in xs[::3]], jnp.stack(xs)), *xs)
    buffers = asgfn.get_backend(backend).device.target.buffers
    assert max(k.code.count("@group(0)") for k in compiled.kernels) <= buffers
    assert not compiled.host_nodes


# ---------------------------------------------------------------------------------------------- programs
def test_programs_and_derivatives(backend: str) -> None:
    functions = list(PROGRAMS.values())
    xs = jnp.asarray(np.stack([VECTOR, VECTOR[::-1], 0.5 * VECTOR]))

    def everything(xs: Any) -> Any:
        return [(asgfn.value_and_grad(f)(xs[0]), asgfn.vmap(asgfn.grad(f))(xs)) for f in functions]

    check(backend, everything, xs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(300, 303))
def test_random_programs(backend: str, seed: int) -> None:
    f, args = make(seed)
    compare(f, args, backend)


# ---------------------------------------------------------------------------------------------- naming them
def test_limits_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits.parse(" threads = 64, f16=0 ") == {"threads": 64, "f16": 0}
    assert limits.parse("least")["buffers"] == 8 and limits.parse("least,buffers=10")["buffers"] == 10
    assert limits.parse("") == {}
    for wrong in ("threads", "threads=many", "ram=1", "threads=-1"):
        with pytest.raises(ValueError, match="ASGFN_WGPU_LIMITS"):
            limits.parse(wrong)
    monkeypatch.setenv(limits.VARIABLE, "grid=7")
    assert limits.wanted() == {"grid": 7}


def test_limits_only_lower(gpu: Any) -> None:
    target = WgpuBackend(limits="threads=100000,buffers=5,shared=4096,f16=0,subgroups=0").device.target
    assert target.workgroup_threads == gpu.device.target.workgroup_threads
    assert (target.buffers, target.workgroup_bytes, target.subgroup, target.types.half) == (5, 4096, (0, 0), False)
