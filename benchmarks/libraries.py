"""The libraries that a benchmark runs with, imported only in the process that measures them."""

from __future__ import annotations

import os
from typing import Any

VARIABLE = "ASGFN_BENCH_BACKEND"


def cpu_backend() -> str:
    """Which backend the benchmarks of the CPU judge: `ASGFN_BENCH_BACKEND`, else the compiled one where there is one."""
    from asgfn.backend import available_backends

    return os.environ.get(VARIABLE) or ("cpu" if "cpu" in available_backends() else "numpy")


def ours() -> tuple[Any, Any, Any]:
    """asgfn, its `numpy` and its `lax`."""
    import asgfn
    import asgfn.numpy as jnp
    from asgfn import lax

    return asgfn, jnp, lax


def jax(precision: str | None = None) -> tuple[Any, Any, Any]:
    """JAX, its `numpy` and its `lax`; `precision` of its products, where not its default."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    if precision:
        jax.config.update("jax_default_matmul_precision", precision)
    return jax, jnp, lax


def torch() -> Any:
    """PyTorch, on all cores as the others are."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return torch
