"""MLP 784-512-512-10, batch 128, one Adam step, on a GPU."""

from __future__ import annotations

from benchmarks.mlp import _step

ENVIRONMENT = {"JAX_PLATFORMS": "cuda"}


def ours() -> dict[str, float]:
    import asgfn
    import asgfn.numpy as jnp

    return _step(asgfn, jnp, backend="wgpu")


def jax_ieee() -> dict[str, float]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_default_matmul_precision", "highest")
    return _step(jax, jnp)


def jax_tf32() -> dict[str, float]:
    import jax
    import jax.numpy as jnp

    return _step(jax, jnp)


VARIANTS = {"asgfn": ours, "jax IEEE": jax_ieee, "jax TF32": jax_tf32}
