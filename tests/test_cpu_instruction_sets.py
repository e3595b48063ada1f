"""Programs on processors with fewer instructions than this one has: each in a process of its own, against NumPy."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("llvmlite")

from backends.llvm import host

PROGRAM = textwrap.dedent(
    """
    import sys
    import numpy as np
    import asgfn, asgfn.numpy as jnp
    from asgfn import lax, nn
    from backends.llvm.host import host, vector_bits

    assert vector_bits() == int(sys.argv[1]), vector_bits()
    rng = np.random.default_rng(0)


    def array(*shape, dtype=np.float32):
        return rng.standard_normal(shape).astype(dtype)


    def check(f, *args, tolerance=2e-5):
        # the numbers of the same program without the compiler
        wanted = asgfn.jit(f, backend="numpy")(*args)
        got = asgfn.jit(f, backend="cpu")(*args)
        for a, b in zip(asgfn.tree.leaves(got), asgfn.tree.leaves(wanted), strict=True):
            a, b = np.asarray(a).astype(np.float64), np.asarray(b).astype(np.float64)
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1.0, np.abs(b).max()))


    # without instructions for them 16-bit floats need functions that only Linux brings along
    halves = host().has("f16c") or sys.platform == "linux"
    # of these rows and columns some are left over by every tile
    for m, k, n in ((1, 70, 333), (4, 64, 64), (12, 300, 64), (64, 64, 64), (61, 33, 97), (20, 20, 129)):
        a, b, bias = array(m, k), array(k, n), array(n)
        check(lambda a, b, bias: nn.gelu(a @ b + bias), a, b, bias)
        check(lambda a, b: a @ b.T, a, np.ascontiguousarray(b.T))
        check(lambda a, b: a.T @ b, np.ascontiguousarray(a.T), b)
        if halves:
            check(lambda a, b: a @ b, a.astype(np.float16), b.astype(np.float16), tolerance=5e-3)
    x = array(37, 130)
    check(lambda x: nn.softmax(x, axis=-1), x)
    check(lambda x: (x - x.mean(-1, keepdims=True)) * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True)), x)
    check(lambda x: (jnp.sin(x), jnp.exp(x), jnp.tanh(x), jnp.log(jnp.abs(x)), lax.erf(x), jnp.abs(x) ** 1.7), x)
    check(lambda x: (jnp.sort(x, axis=1), jnp.cumsum(x, axis=0), x.argmax(1), x[::-1, ::3], x.T + 1), x)
    if halves:
        check(lambda x: x * 2 + 1, np.float16(1.5))
    check(lambda x, i: x[i].sum(0), x, rng.integers(0, 37, 50).astype(np.int32))
    image, kernel = array(2, 3, 17, 15), array(20, 3, 3, 3)
    conv = lambda x, w: lax.conv_general_dilated(x, w, (2, 1), [(1, 1)] * 2)
    check(conv, image, kernel)
    check(asgfn.grad(lambda w, x: jnp.square(conv(x, w)).mean()), kernel, image)
    q = array(2, 3, 40, 16)


    def attention(q, k, v):
        scores = jnp.where(jnp.tril(jnp.ones((40, 40), bool)), q @ k.transpose(0, 1, 3, 2) / 4, -1e30)
        return nn.softmax(scores, axis=-1) @ v


    check(attention, q, array(2, 3, 40, 16), array(2, 3, 40, 16))
    check(asgfn.grad(lambda q: jnp.square(attention(q, q, q)).mean()), q)
    print("done")
    """
)


def run(isa: str, bits: int) -> subprocess.CompletedProcess:
    environment = {**os.environ, "ASGFN_CPU_MAX_ISA": isa, "ASGFN_CACHE": "off"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(bits)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not host.is_x86(), reason="other processors have one kind of vectors")
@pytest.mark.parametrize("isa, bits", [("sse2", 128), ("avx2", 256), ("avx512", 512)])
def test_programs(isa: str, bits: int) -> None:
    done = run(isa, min(bits, host.vector_bits()))
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.skipif(not host.is_x86(), reason="other processors have one kind of vectors")
def test_an_instruction_set_that_does_not_exist() -> None:
    done = run("avx3", 128)
    assert done.returncode and "ASGFN_CPU_MAX_ISA='avx3': expected one of sse2, avx2, avx512" in done.stderr
