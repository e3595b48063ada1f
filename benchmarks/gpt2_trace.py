"""What it takes before a GPT-2-small training step first runs: trace, differentiate, simplify, plan."""

from __future__ import annotations

from typing import Any

from benchmarks.gpt import GPT2, training_step
from benchmarks.timing import timed


def arguments(lib: Any, jnp: Any) -> tuple:
    """Shapes of the arguments of a training step."""
    params = GPT2.parameters(lambda mean, deviation, shape: lib.ShapeDtypeStruct(shape, jnp.float32))
    tokens = lib.ShapeDtypeStruct((GPT2.batch, GPT2.context), jnp.int32)
    return params, params, params, lib.ShapeDtypeStruct((), jnp.float32), tokens, tokens


def ours() -> dict[str, float]:
    import asgfn
    import asgfn.numpy as jnp
    from asgfn import lax
    from asgfn.transforms.simplify import simplify
    from backends.numpy.program import fold, plan

    step, args = training_step(asgfn, jnp, lax, GPT2), arguments(asgfn, jnp)
    asgfn.jit(jnp.sin)(1.0)  # what is loaded on first use
    asg: Any = None

    def trace() -> None:
        nonlocal asg
        asg = asgfn.trace(step)(*args)

    traced = timed(trace)
    simplified = timed(lambda: simplify(asg, fold))
    planned = timed(lambda: plan(asg))
    return {
        "total (s)": traced + simplified + planned,
        "trace and grad (s)": traced,
        "simplify (s)": simplified,
        "plan (s)": planned,
        "nodes traced": len(asg.nodes),
        "nodes planned": len(simplify(asg, fold).nodes),
    }


def jax() -> dict[str, float]:
    import jax
    import jax.numpy as jnp
    from jax import lax

    step, args = training_step(jax, jnp, lax, GPT2), arguments(jax, jnp)
    jax.jit(lambda x: jnp.sin(x))(1.0)
    lowered: Any = None

    def trace() -> None:
        nonlocal lowered
        lowered = jax.jit(step).lower(*args)

    traced = timed(trace)
    compiled = timed(lambda: lowered.compile())
    return {"total (s)": traced + compiled, "trace and grad (s)": traced}


VARIANTS = {"asgfn": ours, "jax": jax}
