"""Activations, as PyTorch computes them: at ordinary inputs, at kinks, and at the ends of the number line."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.references import Case, normal

TINY = float(np.finfo(np.float32).smallest_normal) / 8
# Apart, because a tolerance is relative to the largest number of a case.
SMALL = np.array([-1e-4, -1e-20, -TINY, 0.0, TINY, 1e-20, 1e-4])
MIDDLE = np.array([-88.0, -30.0, -3.5, -1.5, -0.3, 0.3, 1.5, 3.5, 30.0, 88.0])
HUGE = np.array([-1e30, -1e4, 1e4, 1e30])
INFINITE = np.array([-np.inf, np.inf])

# name, arguments, kinks, whether ±infinity has a value and a slope in PyTorch
ELEMENTWISE: list[tuple[str, dict[str, Any], list[float], bool]] = [
    ("relu", {}, [0.0], True),
    ("relu6", {}, [0.0, 6.0], True),
    ("leaky_relu", {}, [0.0], True),
    ("leaky_relu", {"negative_slope": 0.3}, [0.0], True),
    ("hardtanh", {}, [-1.0, 1.0], True),
    ("hardtanh", {"min_val": -0.25, "max_val": 2.0}, [-0.25, 2.0], True),
    ("threshold", {"threshold": 0.3, "value": -7.0}, [0.3], True),
    ("rrelu", {}, [0.0], True),
    ("rrelu", {"lower": 0.25, "upper": 0.75}, [0.0], True),
    ("hardsigmoid", {}, [-3.0, 3.0], True),
    ("hardswish", {}, [-3.0, 0.0, 3.0], False),
    ("hardshrink", {}, [-0.5, 0.5], True),
    ("hardshrink", {"lambd": 1.5}, [-1.5, 1.5], True),
    ("softshrink", {}, [-0.5, 0.5], True),
    ("softshrink", {"lambd": 1.5}, [-1.5, 1.5], True),
    ("elu", {}, [0.0], True),
    ("elu", {"alpha": 2.5}, [0.0], True),
    ("celu", {}, [0.0], True),
    ("celu", {"alpha": 2.5}, [0.0], True),
    ("selu", {}, [0.0], True),
    ("gelu", {}, [0.0, -5.0, 5.0], False),
    ("gelu", {"approximate": "tanh"}, [0.0, -5.0, 5.0], False),
    ("silu", {}, [0.0], False),
    ("mish", {}, [0.0], False),
    ("softplus", {}, [0.0, 20.0, 20.000001], True),
    ("softplus", {"beta": 3, "threshold": 4.5}, [0.0, 1.4999, 1.5, 1.5001], True),
    ("sigmoid", {}, [0.0], True),
    ("logsigmoid", {}, [0.0], True),
    ("tanh", {}, [0.0], True),
    ("tanhshrink", {}, [0.0], True),
    ("softsign", {}, [0.0], False),
]


def _elementwise() -> list[Case]:
    cases = []
    for name, options, kinks, infinite in ELEMENTWISE:
        label = f"{name}{options or ''}"
        call = lambda F, x, name=name, options=options: getattr(F, name)(x, **options)
        points = {"normal": normal(label, 3, 4, 2, scale=3.0), "small": SMALL, "middle": MIDDLE, "huge": HUGE}
        points["kinks"] = np.array(kinks)
        if infinite:
            points["infinite"] = INFINITE
        for kind, x in points.items():
            # PyTorch's slope of hardsigmoid has a sixth in single precision
            tol = 1e-7 if name == "hardsigmoid" else 1e-9
            single: float | None = 2e-5
            if (name, kind) == ("tanhshrink", "small"):
                tol, single = 1e-6, None  # x - tanh(x) of a small x cancels, there as here
            cases.append(Case(f"{label} {kind}", {"x": x}, call, tol=tol, float32_tol=single))
    return cases


def _prelu() -> list[Case]:
    call = lambda F, x, weight: F.prelu(x, weight)
    return [
        Case("prelu one", {"x": normal("prelu", 2, 3, 4), "weight": np.array([0.2])}, call),
        Case("prelu channels", {"x": normal("prelu", 2, 3, 4), "weight": np.array([0.2, -0.5, 0.0])}, call),
        Case("prelu matrix", {"x": normal("prelu", 4, 3), "weight": np.array([0.2, -0.5, 0.0])}, call),
        Case("prelu vector", {"x": np.array([-2.0, 0.0, 3.0]), "weight": np.array([0.5])}, call),
        Case("prelu huge", {"x": np.array([[-1e30], [1e30]]), "weight": np.array([0.5])}, call),
        Case("prelu scalar", {"x": np.array(-2.0), "weight": np.array([0.5])}, call),
    ]


def _over_axis() -> list[Case]:
    cases = []
    for name in ("softmax", "softmin", "log_softmax"):
        ours = lambda axis, name=name: lambda F, x: getattr(F, name)(x, axis=axis)
        theirs = lambda axis, name=name: lambda F, x: getattr(F, name)(x, dim=axis)
        for shape, axis in (((3, 5), -1), ((3, 5), 0), ((2, 3, 4), 1), ((4,), 0), ((2, 1), -1), ((0, 3), -1)):
            x = normal(f"{name}{shape}", *shape, scale=3.0)
            cases.append(Case(f"{name} {shape} {axis}", {"x": x}, ours(axis), theirs(axis)))
        huge = np.array([[1e30, 0.0, -1e30], [1e4, 1e4, 1e4], [-1e30, -1e30, -1e30], [1e-40, 0.0, -1e-40]])
        cases.append(Case(f"{name} huge", {"x": huge}, ours(-1), theirs(-1)))
        one_sided = np.array([[0.5, -np.inf, 1.0]]) * (-1 if name == "softmin" else 1)
        cases.append(Case(f"{name} infinite", {"x": one_sided}, ours(-1), theirs(-1), gradients=name != "log_softmax"))
    for shape, axis in (((4, 6), -1), ((4, 6), 0), ((2, 4, 3), 1)):
        x = normal(f"glu{shape}", *shape, scale=3.0)
        cases.append(Case(f"glu {shape} {axis}", {"x": x}, lambda F, x, axis=axis: F.glu(x, axis), None))
    return [
        *cases,
        Case("glu ends", {"x": np.array([1e30, -1e30, 0.0, 2.0, 3.0, 1e30, -1e30, -1e-40])}, lambda F, x: F.glu(x)),
    ]


CASES = [*_elementwise(), *_prelu(), *_over_axis()]
