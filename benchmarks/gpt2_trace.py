"""What it takes before a GPT-2-small training step first runs: trace, differentiate, simplify, plan."""

from __future__ import annotations

from typing import Any

from benchmarks.timing import timed

LAYERS, WIDTH, HEADS, VOCABULARY, LENGTH, BATCH = 12, 768, 12, 50257, 64, 1


def parameters(shape: Any) -> dict:
    """GPT-2 small's parameters as `shape(*sizes)`."""
    d = WIDTH
    block = lambda: {
        "ln1": {"g": shape(d), "b": shape(d)},
        "qkv": {"w": shape(d, 3 * d), "b": shape(3 * d)},
        "proj": {"w": shape(d, d), "b": shape(d)},
        "ln2": {"g": shape(d), "b": shape(d)},
        "fc": {"w": shape(d, 4 * d), "b": shape(4 * d)},
        "out": {"w": shape(4 * d, d), "b": shape(d)},
    }
    return {
        "wte": shape(VOCABULARY, d),
        "wpe": shape(1024, d),
        "blocks": [block() for _ in range(LAYERS)],
        "lnf": {"g": shape(d), "b": shape(d)},
    }


def training_step(lib: Any, jnp: Any) -> Any:
    """An AdamW step of GPT-2."""

    def norm(x, p):
        mean = x.mean(-1, keepdims=True)
        var = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(var + 1e-5) * p["g"] + p["b"]

    def attention(x, p_qkv, p_out):
        b, t, d = x.shape
        qkv = x @ p_qkv["w"] + p_qkv["b"]
        q, k, v = (a.reshape(b, t, HEADS, d // HEADS).transpose(0, 2, 1, 3) for a in jnp.split(qkv, 3, -1))
        scores = q @ k.swapaxes(-1, -2) / jnp.sqrt(jnp.float32(d // HEADS))
        mask = jnp.tril(jnp.ones((t, t), bool))
        weights = lib.nn.softmax(jnp.where(mask, scores, -1e9), -1)
        out = (weights @ v).transpose(0, 2, 1, 3).reshape(b, t, d)
        return out @ p_out["w"] + p_out["b"]

    def model(params, tokens):
        x = params["wte"][tokens] + params["wpe"][: tokens.shape[1]]
        for p in params["blocks"]:
            x = x + attention(norm(x, p["ln1"]), p["qkv"], p["proj"])
            h = lib.nn.gelu(norm(x, p["ln2"]) @ p["fc"]["w"] + p["fc"]["b"])
            x = x + h @ p["out"]["w"] + p["out"]["b"]
        return norm(x, params["lnf"]) @ params["wte"].T

    def loss_fn(params, tokens, targets):
        logp = lib.nn.log_softmax(model(params, tokens))
        return -jnp.mean(jnp.take_along_axis(logp, targets[..., None], -1))

    def step(params, m, v, t, tokens, targets):
        loss, g = lib.value_and_grad(loss_fn)(params, tokens, targets)
        t = t + 1
        m = lib.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = lib.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        c1, c2 = 1 / (1 - 0.9**t), 1 / (1 - 0.999**t)
        params = lib.tree.map(lambda p, m, v: p - 3e-4 * (m * c1 / (jnp.sqrt(v * c2) + 1e-8) + 0.01 * p), params, m, v)
        return params, m, v, t, loss

    return step


def ours() -> dict[str, float]:
    import asgfn
    import asgfn.numpy as jnp
    from asgfn.transforms.simplify import simplify
    from backends.numpy.program import fold, plan

    shape = lambda *s: asgfn.ShapeDtypeStruct(s, jnp.float32)
    params = parameters(shape)
    tokens = asgfn.ShapeDtypeStruct((BATCH, LENGTH), jnp.int32)
    step = training_step(asgfn, jnp)
    args = (params, params, params, shape(), tokens, tokens)
    asgfn.jit(jnp.sin)(1.0)  # what is loaded on first use
    asg = None

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

    shape = lambda *s: jax.ShapeDtypeStruct(s, jnp.float32)
    params = parameters(shape)
    tokens = jax.ShapeDtypeStruct((BATCH, LENGTH), jnp.int32)
    step = training_step(jax, jnp)
    jax.jit(lambda x: jnp.sin(x))(1.0)
    lowered = None

    def trace() -> None:
        nonlocal lowered
        lowered = jax.jit(step).lower(params, params, params, shape(), tokens, tokens)

    traced = timed(trace)
    compiled = timed(lambda: lowered.compile())
    return {"total (s)": traced + compiled, "trace and grad (s)": traced}


VARIANTS = {"asgfn": ours, "jax": jax}
