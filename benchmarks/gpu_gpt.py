"""A character GPT (6 layers, 384 features, 6 heads, 256 characters, batch 32) on a GPU, one AdamW step."""

from __future__ import annotations

from typing import Any

from benchmarks.gpt import Sizes, torch_step, training_step
from benchmarks.timing import best_of, timed

SIZES = Sizes(layers=6, features=384, heads=6, context=256, batch=32, vocabulary=65)
ENVIRONMENT = {"JAX_PLATFORMS": "cuda"}


def _step(lib: Any, jnp: Any, lax: Any, sizes: Sizes, **options: Any) -> dict[str, float]:
    step = lib.jit(training_step(lib, jnp, lax, sizes), donate_argnums=(0, 1, 2), **options)
    put = lambda tree: lib.tree.map(jnp.asarray, tree)
    zeros = lambda: lib.tree.map(jnp.zeros_like, put(sizes.parameters()))
    x, y = put(sizes.data())
    state = [put(sizes.parameters()), zeros(), zeros(), jnp.float32(0)]

    def once() -> None:
        out = step(*state, x, y)
        state[:] = out[:4]
        float(out[4])

    first = timed(once)
    return {"step (ms)": best_of(once, 3.0) * 1e3, "first call (s)": first}


def ours() -> dict[str, float]:
    import asgfn
    import asgfn.numpy as jnp
    from asgfn import lax

    return _step(asgfn, jnp, lax, SIZES, backend="wgpu")


def jax_ieee() -> dict[str, float]:
    import jax
    import jax.numpy as jnp
    from jax import lax

    jax.config.update("jax_default_matmul_precision", "highest")
    return _step(jax, jnp, lax, SIZES)


def jax_tf32() -> dict[str, float]:
    import jax
    import jax.numpy as jnp
    from jax import lax

    return _step(jax, jnp, lax, SIZES)


def torch_compiled(precision: str = "highest") -> dict[str, float]:
    import torch

    torch.set_float32_matmul_precision(precision)
    model, optimiser, x, y = torch_step(SIZES, "cuda")
    compiled = torch.compile(model)

    def once() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss = compiled(x, y)
        loss.backward()
        optimiser.step()
        loss.item()

    first = timed(once)
    return {
        "step (ms)": best_of(once, 3.0) * 1e3,
        "first call (s)": first,
        "peak memory (MB)": torch.cuda.max_memory_allocated() / 1e6,
    }


def torch_tf32() -> dict[str, float]:
    return torch_compiled("high")


VARIANTS = {
    "asgfn": ours, "jax IEEE": jax_ieee, "jax TF32": jax_tf32, "torch IEEE": torch_compiled, "torch TF32": torch_tf32,
}  # fmt: skip
