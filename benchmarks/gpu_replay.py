"""What a call of a compiled program costs the processor, per dispatch: the training step of `benchmarks.gpu_gpt`.

Only the calling thread's processor time counts, and nothing is read before the end, so that the GPU's time does not.
"""

from __future__ import annotations

import time


def ours(calls: int = 30) -> dict[str, float]:
    import asgfn
    import asgfn.numpy as jnp
    from asgfn import lax
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

    run(5)
    spent = sorted(run(calls) / calls for _ in range(3))[1]
    return {
        "processor time of a call (ms)": spent * 1e3,
        "dispatches": dispatches,
        "of a dispatch (µs)": spent / dispatches * 1e6,
    }


VARIANTS = {"asgfn": ours}
