"""`torch.nn.functional.scaled_dot_product_attention`: cases for `nn_fn.functional`."""

from __future__ import annotations

import numpy as np

from tests.references import Case, normal, numbers

CASES: list[Case] = []


def case(name, shapes, mask=None, magnitude=1.0, float32_tol=2e-5, constant=(), **options):
    """Shapes are those of query, key and value."""
    inputs = {what: normal(f"{name} {what}", *shape) for what, shape in zip("qkv", shapes, strict=True)}
    inputs["q"] = inputs["q"] * magnitude
    if mask is not None:
        inputs["mask"] = mask

    def attend(F, q, k, v, mask=None):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, **options)

    CASES.append(Case(name, inputs, attend, float32_tol=float32_tol, constant=constant))


def visible(name: str, *shape: int) -> np.ndarray:
    """A boolean mask in which every row has something to see."""
    mask = numbers(name).uniform(size=shape) < 0.6
    mask[..., 0] = True
    return mask


plain = [(2, 3, 4, 5)] * 3
crossed = [(2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)]
for name, shapes in {
    "plain": plain,
    "crossed": crossed,
    "without heads": [(2, 4, 5), (2, 3, 5), (2, 3, 5)],
    "without batch": [(4, 5), (3, 5), (3, 2)],
    "two batch axes": [(2, 1, 2, 3, 4)] * 3,
    "one position": [(2, 2, 1, 3)] * 3,
    "one feature": [(1, 1, 4, 1)] * 3,
}.items():
    case(name, shapes)
    case(f"{name}, causal", shapes, is_causal=True)
    case(f"{name}, scale", shapes, scale=0.3)

case("causal, more keys than queries", crossed, is_causal=True)
case("causal, more queries than keys", [(2, 5, 4), (2, 3, 4), (2, 3, 4)], is_causal=True)

for shape in [(4, 6), (1, 6), (4, 1), (2, 1, 4, 6), (3, 4, 6), (2, 3, 4, 6), (2, 1, 1, 6)]:
    case(f"boolean mask {shape}", crossed, visible(f"mask {shape}", *shape))
    # what is added to a whole row of scores changes nothing: its gradient is rounding errors
    constant = ("mask",) if shape[-1] == 1 else ()
    case(f"additive mask {shape}", crossed, normal(f"additive {shape}", *shape, scale=2.0), constant=constant)

hidden = visible("hidden", 2, 3, 4, 6)
hidden[0, :, 1] = False
hidden[1, 2] = False
case("boolean mask with rows that see nothing", crossed, hidden)
infinite = np.where(hidden, normal("infinite", 2, 3, 4, 6), -np.inf)
case("additive mask with rows that see nothing", crossed, infinite)
case("mask that hides all", plain, np.zeros((4, 4), bool))

for kv_heads in (1, 2, 3, 6):
    shapes = [(2, 6, 4, 5), (2, kv_heads, 3, 5), (2, kv_heads, 3, 7)]
    case(f"grouped, {kv_heads} key heads", shapes, enable_gqa=True)
    case(f"grouped and causal, {kv_heads} key heads", shapes, enable_gqa=True, is_causal=True)
    mask = visible(f"grouped {kv_heads}", 2, 6, 4, 3)
    case(f"grouped with a mask, {kv_heads} key heads", shapes, mask, enable_gqa=True)
    case(f"grouped with a mask of one head, {kv_heads} key heads", shapes, mask[:, :1], enable_gqa=True)
case("grouped without batch", [(4, 3, 2), (2, 5, 2), (2, 5, 2)], enable_gqa=True)

case("scores in the tens of thousands", crossed, magnitude=1e4, float32_tol=2e-3)
case("causal scores in the tens of thousands", plain, magnitude=1e4, is_causal=True, float32_tol=2e-3, constant="qk")
