"""Transformer blocks with PyTorch's weights, as PyTorch computes them, and patches as its convolution makes them."""

from __future__ import annotations

from typing import Any

from tests.references import Case, normal
from tests.references.layers_attention import (
    attention_params,
    attention_shapes,
    linear_params,
    padded,
    torch_module,
    weights,
)

FEATURES, HIDDEN = 8, 12


def _shapes(decoder: bool, bias: bool) -> dict[str, tuple[int, ...]]:
    shapes = attention_shapes(FEATURES, bias=bias, prefix="self_attn.")
    if decoder:
        shapes |= attention_shapes(FEATURES, bias=bias, prefix="multihead_attn.")
    shapes |= {"linear1.weight": (HIDDEN, FEATURES), "linear2.weight": (FEATURES, HIDDEN)}
    norms = ("norm1", "norm2", "norm3") if decoder else ("norm1", "norm2")
    shapes |= {f"{n}.weight": (FEATURES,) for n in norms}
    if bias:
        shapes |= {"linear1.bias": (HIDDEN,), "linear2.bias": (FEATURES,)} | {f"{n}.bias": (FEATURES,) for n in norms}
    return shapes


def _params(w: dict[str, Any], decoder: bool) -> dict[str, Any]:
    params: dict[str, Any] = {
        "attn": attention_params(w, "self_attn."),
        "ff": {name: linear_params(w, name) for name in ("linear1", "linear2")},
    }
    if decoder:
        params["cross"] = attention_params(w, "multihead_attn.")
    for norm in ("norm1", "norm2", "norm3") if decoder else ("norm1", "norm2"):
        params[norm] = {k: w[f"{norm}.{k}"] for k in ("weight", "bias") if f"{norm}.{k}" in w}
    return params


ENCODERS: list[tuple[int, int, int, dict[str, Any], bool]] = [
    (2, 5, 2, {"norm_first": True}, False),
    (2, 5, 2, {"norm_first": False}, False),
    (3, 4, 4, {"norm_first": True, "activation": "gelu", "norm_eps": 1e-3}, True),
    (3, 4, 4, {"norm_first": False, "activation": "gelu"}, True),
    (2, 5, 2, {"norm_first": True, "causal": True}, True),
    (1, 1, 1, {"norm_first": False, "causal": True, "bias": False}, False),
]


def _encoders() -> list[Case]:
    from nn_fn.layers import padding_mask, transformer_encoder_block

    cases = []
    for batch, length, heads, options, masked in ENCODERS:
        label = f"encoder {batch} {length} {heads} {options} {masked}"
        inputs = {"x": normal(label, batch, length, FEATURES)}
        inputs |= weights(label, _shapes(False, options.get("bias", True)))
        present = padded(label, batch, length) if masked else None
        layer = transformer_encoder_block(FEATURES, heads, HIDDEN, **options)
        module = torch_module(
            lambda torch: torch.nn.TransformerEncoderLayer, FEATURES, heads, HIDDEN, **_torch(options)
        )

        def ours(F: Any, x: Any, layer: Any = layer, present: Any = present, **w: Any) -> Any:
            return layer(_params(w, False), x, mask=None if present is None else padding_mask(present))

        def theirs(
            F: Any, x: Any, module: Any = module, present: Any = present, options: Any = options, **w: Any
        ) -> Any:
            import torch

            extra = {} if present is None else {"src_key_padding_mask": torch.tensor(~present)}
            if options.get("causal"):
                extra["src_mask"] = ~torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
            return module(w, x, **extra)

        cases.append(Case(label, inputs, ours, theirs))
    return cases


def _torch(options: dict[str, Any]) -> dict[str, Any]:
    """The options of ours as those of PyTorch's block."""
    names = {"norm_eps": "layer_norm_eps"}
    kept = {names.get(k, k): v for k, v in options.items() if k != "causal"}
    return {"dropout": 0.0, "batch_first": True, **kept}


DECODERS: list[tuple[int, int, int, int, dict[str, Any], bool]] = [
    (2, 4, 3, 2, {"norm_first": True}, False),
    (2, 4, 3, 2, {"norm_first": False}, True),
    (2, 3, 5, 4, {"norm_first": True, "activation": "gelu"}, True),
    (1, 1, 1, 1, {"norm_first": False, "bias": False}, False),
    (2, 3, 4, 2, {"norm_first": True, "causal": False}, True),
]


def _decoders() -> list[Case]:
    from nn_fn.layers import padding_mask, transformer_decoder_block

    cases = []
    for batch, length, keys, heads, options, masked in DECODERS:
        label = f"decoder {batch} {length} {keys} {heads} {options} {masked}"
        inputs = {"x": normal(label, batch, length, FEATURES), "context": normal(label + "c", batch, keys, FEATURES)}
        inputs |= weights(label, _shapes(True, options.get("bias", True)))
        present = (padded(label, batch, length), padded(label + "c", batch, keys)) if masked else None
        layer = transformer_decoder_block(FEATURES, heads, HIDDEN, **options)
        module = torch_module(
            lambda torch: torch.nn.TransformerDecoderLayer, FEATURES, heads, HIDDEN, **_torch(options)
        )

        def ours(F: Any, x: Any, context: Any, layer: Any = layer, present: Any = present, **w: Any) -> Any:
            masks = dict(zip(("mask", "context_mask"), map(padding_mask, present or ()), strict=False))
            return layer(_params(w, True), x, context=context, **masks)

        def theirs(
            F: Any, x: Any, context: Any, module: Any = module, present: Any = present, options: Any = options, **w: Any
        ) -> Any:
            import torch

            names = ("tgt_key_padding_mask", "memory_key_padding_mask")
            extra = {n: torch.tensor(~p) for n, p in zip(names, present or (), strict=False)}
            if options.get("causal", True):
                extra["tgt_mask"] = ~torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
            return module(w, x, context, **extra)

        cases.append(Case(label, inputs, ours, theirs))
    return cases


# images, patch, class token and positions
PATCHES = [
    ((2, 3, 4, 6), (2, 3), True),
    ((1, 1, 4, 4), (4, 4), False),
    ((3, 2, 6, 2), (1, 2), True),
    ((2, 4, 4), (2, 2), True),
]


def _patches() -> list[Case]:
    from nn_fn.layers import patch_embedding

    cases = []
    for shape, patch, extras in PATCHES:
        label = f"patches {shape} {patch} {extras}"
        channels, size = shape[-3], shape[-2:]
        count = (size[0] // patch[0]) * (size[1] // patch[1])
        inputs = {
            "x": normal(label, *shape),
            "weight": normal(label + "weight", 5, channels, *patch),
            "bias": normal(label + "bias", 5),
            "token": normal(label + "token", 5),
            "places": normal(label + "places", count + 1, 5),
        }
        layer = patch_embedding(
            channels, 5, patch, size if extras else None, class_token=extras, learned_positions=extras
        )

        def ours(
            F: Any, x: Any, weight: Any, bias: Any, token: Any, places: Any, layer: Any = layer, extras: bool = extras
        ) -> Any:
            params = {"projection": {"weight": weight.reshape(weight.shape[0], -1).T, "bias": bias}}
            return layer(params | ({"class_token": token, "positions": places} if extras else {}), x)

        def theirs(
            F: Any, x: Any, weight: Any, bias: Any, token: Any, places: Any, patch: Any = patch, extras: bool = extras
        ) -> Any:
            import torch

            y = F.conv2d(x, weight, bias, stride=patch).flatten(-2).transpose(-1, -2)
            return torch.cat([token.expand(*y.shape[:-2], 1, -1), y], -2) + places if extras else y

        cases.append(Case(label, inputs, ours, theirs))
    return cases


CASES = [*_encoders(), *_decoders(), *_patches()]
