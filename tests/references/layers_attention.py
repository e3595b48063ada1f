"""Multi-head attention with PyTorch's weights, as PyTorch computes it; rotary and grouped-query variants from parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.references import Case, normal, numbers


def weights(label: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights of about the usual size, by name; norms' are near 1."""
    made = {}
    for name, shape in shapes.items():
        scale = 1 / math.sqrt(shape[-1]) if len(shape) > 1 else 0.3
        made[name] = normal(f"{label}: {name}", *shape, scale=scale) + ("norm" in name and name.endswith("weight"))
    return made


def torch_module(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """``(weights, *inputs, **options) -> output`` with a PyTorch module, which is made when first needed."""

    def call(given: dict[str, Any], *inputs: Any, **options: Any) -> Any:
        import torch

        module = make(torch)(*args, **kwargs).double().train()
        return torch.func.functional_call(module, given, inputs, options)

    return call


def attention_shapes(
    features: int, kv_features: int | None = None, bias: bool = True, prefix: str = ""
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of `torch.nn.MultiheadAttention`."""
    e = features
    if kv_features in (None, features):
        shapes = {"in_proj_weight": (3 * e, e)}
    else:
        shapes = {"q_proj_weight": (e, e), "k_proj_weight": (e, kv_features), "v_proj_weight": (e, kv_features)}
    if bias:
        shapes["in_proj_bias"] = (3 * e,)
    shapes["out_proj.weight"] = (e, e)
    if bias:
        shapes["out_proj.bias"] = (e,)
    return {prefix + name: shape for name, shape in shapes.items()}


def attention_params(given: dict[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
    """Our parameters from those weights."""
    w = {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}
    params: dict[str, dict[str, Any]] = {"out": {"weight": w["out_proj.weight"].T}}
    size = w["out_proj.weight"].shape[0]
    for i, name in enumerate("qkv"):
        rows = slice(i * size, (i + 1) * size)
        packed = w.get("in_proj_weight")
        params[name] = {"weight": (w[f"{name}_proj_weight"] if packed is None else packed[rows]).T}
        if "in_proj_bias" in w:
            params[name]["bias"] = w["in_proj_bias"][rows]
    if "out_proj.bias" in w:
        params["out"]["bias"] = w["out_proj.bias"]
    return params


def linear_params(given: dict[str, Any], name: str) -> dict[str, Any]:
    """Our parameters of a linear layer from PyTorch's weights."""
    params = {"weight": given[f"{name}.weight"].T}
    return params | ({"bias": given[f"{name}.bias"]} if f"{name}.bias" in given else {})


def padded(label: str, batch: int, length: int) -> np.ndarray:
    """Which of `length` positions are there, bool [batch, length]; the first always is."""
    lengths = numbers(label + ": lengths").randint(1, length + 1, batch)
    return np.arange(length) < lengths[:, None]


# leading axes of x, length, features, heads, options of ours; and which mask
SELF = [
    ((2,), 5, 8, 2, {}, None),
    ((1,), 1, 4, 1, {}, None),
    ((3,), 7, 12, 3, {"bias": False}, None),
    ((), 4, 6, 2, {}, None),
    ((2,), 5, 8, 4, {"causal": True}, None),
    ((2,), 5, 8, 2, {}, "padding"),
    ((2,), 5, 8, 2, {"causal": True}, "padding"),
    ((2,), 4, 8, 2, {}, "boolean"),
    ((2,), 4, 8, 2, {}, "additive"),
    ((2,), 4, 8, 2, {}, "large"),
]


def _self_attention() -> list[Case]:
    from nn_fn.layers import multi_head_attention, padding_mask

    cases = []
    for leading, length, features, heads, options, kind in SELF:
        label = f"self {leading} {length} {features} {heads} {options or ''} {kind or ''}".strip()
        scale = 300.0 if kind == "large" else 1.0
        inputs = {"x": normal(label, *leading, length, features, scale=scale)}
        inputs |= weights(label, attention_shapes(features, bias=options.get("bias", True)))
        ours_mask = None
        theirs_mask: dict[str, np.ndarray] = {}
        if kind == "padding":
            present = padded(label, leading[0], length)
            ours_mask, theirs_mask = padding_mask(present), {"key_padding_mask": ~present}
        elif kind == "boolean":
            ours_mask = (numbers(label + "mask").rand(length, length) < 0.6) | np.eye(length, dtype=bool)
            theirs_mask = {"attn_mask": ~ours_mask}
        elif kind == "additive":
            ours_mask = normal(label + "mask", leading[0], heads, length, length)
            theirs_mask = {"attn_mask": ours_mask.reshape(-1, length, length)}
        if options.get("causal"):
            theirs_mask["attn_mask"] = ~np.tril(np.ones((length, length), bool))
        layer = multi_head_attention(features, heads, **options)
        module = torch_module(
            lambda torch: torch.nn.MultiheadAttention,
            features,
            heads,
            bias=options.get("bias", True),
            batch_first=True,
        )

        def ours(F: Any, x: Any, layer: Any = layer, mask: Any = ours_mask, **w: Any) -> Any:
            return layer(attention_params(w), x, mask=mask)

        def theirs(F: Any, x: Any, module: Any = module, masks: Any = theirs_mask, **w: Any) -> Any:
            import torch

            masks = {k: torch.tensor(v) for k, v in masks.items()}
            return module(w, x, x, x, need_weights=False, **masks)[0]

        cases.append(Case(label, inputs, ours, theirs, float32_tol=2e-5 if kind != "large" else None))
    return cases


CROSS = [
    ((2,), 3, 5, 8, 8, 2, True),
    ((2,), 1, 4, 6, 9, 3, True),
    ((), 4, 2, 8, 3, 4, False),
    ((1,), 3, 2, 4, 4, 1, True),
]


def _cross_attention() -> list[Case]:
    from nn_fn.layers import multi_head_attention, padding_mask

    cases = []
    for leading, length, keys, features, width, heads, bias in CROSS:
        label = f"cross {leading} {length} {keys} {features} {width} {heads} {bias}"
        inputs = {"x": normal(label, *leading, length, features), "context": normal(label + "c", *leading, keys, width)}
        inputs |= weights(label, attention_shapes(features, width, bias))
        present = padded(label, leading[0], keys) if leading else None
        layer = multi_head_attention(features, heads, kv_features=width, bias=bias)
        module = torch_module(
            lambda torch: torch.nn.MultiheadAttention,
            features,
            heads,
            bias=bias,
            kdim=width,
            vdim=width,
            batch_first=True,
        )

        def ours(F: Any, x: Any, context: Any, layer: Any = layer, present: Any = present, **w: Any) -> Any:
            mask = None if present is None else padding_mask(present)
            return layer(attention_params(w), x, context=context, mask=mask)

        def theirs(F: Any, x: Any, context: Any, module: Any = module, present: Any = present, **w: Any) -> Any:
            import torch

            masks = {} if present is None else {"key_padding_mask": torch.tensor(~present)}
            return module(w, x, context, context, need_weights=False, **masks)[0]

        cases.append(Case(label, inputs, ours, theirs))
    return cases


# heads, kv_heads, features of a head, options
PARTS = [
    (4, 2, 4, {"causal": True}),
    (6, 1, 2, {}),
    (2, 2, 6, {"causal": True, "rope": True}),
    (4, 2, 4, {"rope": 500.0}),
    (3, 3, 4, {"alibi": True}),
    (6, 2, 3, {"alibi": True, "causal": True}),
    (4, 4, 2, {"alibi": True, "causal": True, "rope": True}),
]


def _from_parts() -> list[Case]:
    from nn_fn.layers import multi_head_attention

    features, length = 7, 5
    cases = []
    for heads, kv_heads, size, options in PARTS:
        label = f"parts {heads} {kv_heads} {size} {options}"
        rows = {"q": heads * size, "k": kv_heads * size, "v": kv_heads * size}
        shapes: dict[str, tuple[int, ...]] = {}
        for name, count in rows.items():
            shapes |= {f"{name}.weight": (count, features), f"{name}.bias": (count,)}
        shapes |= {"out.weight": (features, heads * size), "out.bias": (features,)}
        inputs = {"x": normal(label, 2, length, features)} | weights(label, shapes)
        layer = multi_head_attention(features, heads, kv_heads=kv_heads, head_features=size, **options)

        def ours(F: Any, x: Any, layer: Any = layer, **w: Any) -> Any:
            return layer({name: linear_params(w, name) for name in ("q", "k", "v", "out")}, x)

        def theirs(F: Any, x: Any, heads: int = heads, size: int = size, options: Any = options, **w: Any) -> Any:
            import torch

            def split(name: str) -> Any:
                return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"]).unflatten(-1, (-1, size)).transpose(1, 2)

            q, k, v = split("q"), split("k"), split("v")
            if "rope" in options:
                base = 10000.0 if options["rope"] is True else options["rope"]
                steps = base ** (-2 * torch.arange(size // 2, dtype=torch.float64) / size)
                turn = torch.outer(torch.arange(length, dtype=torch.float64), steps)
                turn = torch.polar(torch.ones_like(turn), turn)
                pairs = lambda t: torch.complex(t[..., : size // 2], t[..., size // 2 :]) * turn
                q, k = (torch.cat([pairs(t).real, pairs(t).imag], -1) for t in (q, k))
            bias = torch.zeros(heads, length, length, dtype=torch.float64)
            if options.get("alibi"):
                slopes = {3: [2**-4, 2**-8, 2**-2], 4: [2**-2, 2**-4, 2**-6, 2**-8]}.get(heads) or [
                    2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3,
                ]  # fmt: skip
                steps = torch.arange(length, dtype=torch.float64)
                bias = -torch.tensor(slopes, dtype=torch.float64)[:, None, None] * (steps[:, None] - steps).abs()
            if options.get("causal"):
                bias = bias.masked_fill(~torch.ones(length, length, dtype=torch.bool).tril(), -torch.inf)
            y = F.scaled_dot_product_attention(q, k, v, bias, enable_gqa=True)
            return F.linear(y.transpose(1, 2).flatten(2), w["out.weight"], w["out.bias"])

        # without rotation the same number added to all keys' scores changes nothing: that gradient is rounding only
        constant = () if "rope" in options else ("k.bias",)
        cases.append(Case(label, inputs, ours, theirs, constant))
    return cases


CASES = [*_self_attention(), *_cross_attention(), *_from_parts()]
