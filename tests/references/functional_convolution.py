"""Linear and bilinear maps and convolutions, as PyTorch computes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.references import Case, normal

Shape = tuple[int, ...]

# function, x, weight, with bias, options
CONVOLUTIONS: list[tuple[str, Shape, Shape, bool, dict[str, Any]]] = [
    ("conv1d", (2, 3, 9), (4, 3, 3), True, {}),
    ("conv1d", (2, 3, 9), (4, 3, 2), False, {"stride": 2, "padding": 1}),
    ("conv1d", (4, 10), (6, 2, 3), True, {"groups": 2, "dilation": 2}),
    ("conv1d", (2, 3, 8), (3, 3, 4), True, {"padding": "same"}),
    ("conv1d", (2, 3, 8), (3, 3, 4), True, {"padding": "valid", "stride": (3,)}),
    ("conv1d", (1, 1, 1), (1, 1, 1), True, {}),
    ("conv2d", (2, 3, 6, 7), (4, 3, 3, 3), True, {}),
    ("conv2d", (2, 3, 6, 7), (4, 3, 3, 2), True, {"stride": (2, 1), "padding": (1, 0)}),
    ("conv2d", (2, 4, 7, 6), (6, 2, 3, 3), True, {"padding": 2, "dilation": (2, 1), "groups": 2}),
    ("conv2d", (2, 3, 5, 5), (6, 1, 3, 3), True, {"padding": 1, "groups": 3}),
    ("conv2d", (2, 3, 5, 6), (2, 3, 4, 3), True, {"padding": "same", "dilation": 2}),
    ("conv2d", (3, 5, 6), (2, 3, 1, 1), True, {"stride": 2}),
    ("conv2d", (2, 1, 9, 9), (2, 1, 3, 3), True, {"stride": 4, "padding": 1, "dilation": 3}),
    ("conv2d", (2, 2, 3, 3), (2, 2, 3, 3), False, {}),
    ("conv3d", (2, 2, 4, 5, 4), (3, 2, 2, 3, 2), True, {}),
    ("conv3d", (2, 4, 5, 4, 4), (4, 2, 3, 2, 2), True, {"stride": (2, 1, 2), "padding": (1, 0, 1), "groups": 2}),
    ("conv3d", (2, 4, 4, 4), (2, 2, 2, 2, 2), False, {"dilation": (1, 2, 3), "padding": "same"}),
    ("conv_transpose1d", (2, 3, 5), (3, 4, 3), True, {}),
    ("conv_transpose1d", (2, 4, 5), (4, 3, 3), True, {"stride": 3, "padding": 1, "output_padding": 2, "groups": 2}),
    ("conv_transpose1d", (4, 5), (4, 2, 2), False, {"dilation": 3, "output_padding": 2}),
    ("conv_transpose2d", (2, 3, 4, 5), (3, 2, 3, 3), True, {}),
    ("conv_transpose2d", (2, 3, 4, 5), (3, 2, 2, 2), True, {"stride": 2}),
    (
        "conv_transpose2d",
        (2, 4, 3, 4),
        (4, 3, 3, 2),
        True,
        {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2), "groups": 2},
    ),
    ("conv_transpose2d", (2, 3, 4, 4), (3, 2, 3, 3), True, {"padding": 2}),
    ("conv_transpose2d", (2, 3, 4, 4), (3, 2, 1, 1), True, {"stride": 3, "padding": 1}),
    ("conv_transpose2d", (4, 3, 3), (4, 1, 2, 2), True, {"dilation": 2, "groups": 4, "padding": 1}),
    ("conv_transpose3d", (2, 2, 3, 2, 3), (2, 3, 2, 2, 2), True, {"stride": 2}),
    (
        "conv_transpose3d",
        (2, 4, 3, 2, 3),
        (4, 1, 2, 3, 2),
        True,
        {"stride": (1, 2, 1), "padding": (0, 1, 1), "groups": 2},
    ),
]


def _convolutions() -> list[Case]:
    cases = []
    for name, x, weight, with_bias, options in CONVOLUTIONS:
        label = f"{name} {x} {weight} {options or ''}"
        outputs = weight[0] if "transpose" not in name else weight[1] * options.get("groups", 1)
        inputs = {"x": normal(label, *x), "weight": normal(label + "weight", *weight)}
        if with_bias:
            inputs["bias"] = normal(label + "bias", outputs)
        call = lambda F, x, weight, bias=None, name=name, options=options: getattr(F, name)(x, weight, bias, **options)
        cases.append(Case(label, inputs, call))
    return cases


def _linear() -> list[Case]:
    ours = lambda F, x, weight, bias=None: F.linear(x, weight, bias)
    theirs = lambda F, x, weight, bias=None: F.linear(x, weight.T, bias)
    cases = []
    for shape in ((4, 3), (3,), (2, 0, 3), (2, 2, 4, 3)):
        inputs = {"x": normal(f"linear{shape}", *shape), "weight": normal("linear", 3, 5), "bias": normal("b", 5)}
        cases.append(Case(f"linear {shape}", inputs, ours, theirs))
    cases.append(Case("linear no bias", {"x": normal("x", 4, 3), "weight": normal("linear", 3, 1)}, ours, theirs))
    cases.append(Case("linear vector", {"x": normal("x", 4, 3), "weight": normal("linear", 3)}, ours))
    huge = {
        "x": np.array([[1e30, 1e-40]]),
        "weight": np.array([[1e-30, 2.0], [1e30, 0.0]]),
        "bias": np.array([1.0, -1e30]),
    }
    cases.append(Case("linear huge", huge, ours, theirs))
    call = lambda F, x1, x2, weight, bias=None: F.bilinear(x1, x2, weight, bias)
    for lead in ((4,), (), (2, 3)):
        inputs = {"x1": normal("x1", *lead, 3), "x2": normal("x2", *lead, 4), "weight": normal("w", 5, 3, 4)}
        cases.append(Case(f"bilinear {lead} no bias", inputs, call))
        cases.append(Case(f"bilinear {lead}", {**inputs, "bias": normal("b", 5)}, call))
    return cases


CASES = [*_convolutions(), *_linear()]
