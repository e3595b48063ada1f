"""What a call of a compiled program costs the processor, per dispatch: the training step of `benchmarks.gpu_gpt`.

Only the calling thread's processor time counts, and nothing is read before the end, so that the GPU's time does not. How
much of it is Python's shows when the library's functions that are called for each dispatch are exchanged for one that does
nothing; the rest is what the library does with them.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any


def ours(calls: int = 30) -> dict[str, float]:
    import asgfn
    import asgfn.numpy as jnp
    from asgfn import lax
    from asgfn.backend import get_backend
    from benchmarks.gpt import training_step
    from benchmarks.gpu_gpt import SIZES

    step = asgfn.jit(training_step(asgfn, jnp, lax, SIZES), donate_argnums=(0, 1, 2), backend="wgpu")
    put = lambda tree: asgfn.tree.map(jnp.asarray, tree)
    zeros = lambda: asgfn.tree.map(jnp.zeros_like, put(SIZES.parameters()))
    data = put(SIZES.data())
    state = [put(SIZES.parameters()), zeros(), zeros(), jnp.float32(0)]
    dispatches = len(step.lower(*state, *data).compile().kernels)

    def run(calls: int) -> float:
        nonlocal state
        started = time.thread_time()
        for _ in range(calls):
            *state, loss = step(*state, *data)
        spent = time.thread_time() - started
        float(loss)
        return spent

    def typical() -> float:
        return sorted(run(calls) / calls for _ in range(3))[1]

    run(5)
    spent = typical()
    recorder: Any = get_backend("wgpu").device.recorder  # type: ignore[attr-defined]
    nothing = ctypes.PyDLL(None).Py_IsInitialized
    recorder._quick = type(recorder._quick)(*[nothing] * len(recorder._quick))
    python = typical()
    return {
        "processor time of a call (ms)": spent * 1e3,
        "dispatches": dispatches,
        "of a dispatch (µs)": spent / dispatches * 1e6,
        "of it Python's (µs)": python / dispatches * 1e6,
    }


VARIANTS = {"asgfn": ours}
