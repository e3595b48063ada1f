"""Programs through Dawn on a software adapter, against NumPy: run by `test_wgpu_dawn.py` in a process of its own, since a
process uses one implementation of WebGPU. Exits with 75 if there is no adapter."""

from __future__ import annotations

import sys

import numpy as np

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, nn
from asgfn.errors import BackendError


def main() -> int:
    try:
        backend = asgfn.get_backend("wgpu")
    except BackendError as error:
        print(error)
        return 75
    from backends.wgpu.dawn import DawnRecorder
    from tests.wgpu_checks import check

    assert backend.device.implementation.name == "dawn"
    assert isinstance(backend.device.recorder, DawnRecorder)
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=s).astype(np.float32) for s in ((33, 48), (48, 20)))
    check(lambda x, y: nn.softmax(jnp.tanh(x @ y)), x, y)
    check(asgfn.grad(lambda x, y: (nn.gelu(x @ y) ** 2).sum()), x, y, atol=1e-3)
    check(lambda x: (jnp.sort(x), jnp.cumsum(x, 0), x.T[::2], x.argmax(1)), x)
    check(lambda x: lax.scan(lambda c, row: (c + row, (c * row).sum()), jnp.zeros(48), x), x)
    check(lambda x: lax.while_loop(lambda c: (c**2).sum() < 1e6, lambda c: c * 1.5, x), x)
    check(lambda i, x: lax.cond(i > 0, jnp.sin, jnp.cos, x), np.int32(1), x)
    updated = asgfn.jit(lambda p, g: p - 0.1 * g, backend="wgpu", donate_argnums=0)
    parameters = asgfn.device_put(x, asgfn.devices("wgpu")[0])
    for _ in range(3):
        parameters = updated(parameters, x)
    np.testing.assert_allclose(np.asarray(parameters), 0.7 * x, rtol=1e-5, atol=1e-6)
    try:
        backend.device.pipelines([_broken()])
    except BackendError as error:
        assert "compiling a kernel" in str(error)
    else:
        raise AssertionError("a kernel that is no WGSL was compiled")
    check(lambda x: x + 1, x)
    return 0


def _broken() -> object:
    from backends.wgpu.device import Kernel

    return Kernel("fn main( {", ())


if __name__ == "__main__":
    sys.exit(main())
