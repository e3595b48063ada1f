"""Pooling, adaptive pooling and unpooling, as PyTorch computes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.references import Case, normal, numbers

Shape = tuple[int, ...]

# function, shape of x, positional arguments, options
WINDOWS: list[tuple[str, Shape, tuple, dict[str, Any]]] = [
    ("max_pool1d", (2, 3, 9), (2,), {}),
    ("max_pool1d", (3, 9), (3, 2), {"padding": 1, "dilation": 2, "ceil_mode": True}),
    ("max_pool2d", (2, 3, 6, 8), (2,), {}),
    ("max_pool2d", (2, 3, 7, 7), (3, 2), {"padding": 1}),
    ("max_pool2d", (2, 2, 7, 6), ((3, 2), (2, 1)), {"padding": (1, 0), "ceil_mode": True}),
    ("max_pool2d", (2, 2, 5, 5), (2, 2), {"ceil_mode": True, "padding": 1}),
    ("max_pool2d", (2, 8, 9), (3,), {"dilation": (2, 3), "stride": 1, "padding": 1}),
    ("max_pool2d", (1, 1, 1, 1), (1,), {}),
    ("max_pool2d", (1, 1, 1, 1), (3,), {"padding": 1}),
    ("max_pool2d", (1, 2, 5, 8), (2, 3, 1), {}),  # padding before, and as many elements left over behind
    ("max_pool3d", (2, 2, 4, 5, 4), (2,), {}),
    ("max_pool3d", (2, 5, 4, 4), ((2, 3, 2), 2), {"padding": (1, 1, 0), "ceil_mode": True}),
    ("avg_pool1d", (2, 3, 9), (2,), {}),
    ("avg_pool1d", (3, 9), (4, 3), {"padding": 2, "ceil_mode": True}),
    ("avg_pool1d", (3, 9), (4, 3), {"padding": 2, "ceil_mode": True, "count_include_pad": False}),
    ("avg_pool2d", (2, 3, 6, 8), (2,), {}),
    ("avg_pool2d", (2, 3, 7, 7), (3, 2), {"padding": 1}),
    ("avg_pool2d", (2, 3, 7, 7), (3, 1), {"padding": 1, "count_include_pad": False}),
    ("avg_pool2d", (2, 3, 6, 7), ((3, 2), (2, 3)), {"padding": (1, 0), "ceil_mode": True}),
    ("avg_pool2d", (2, 3, 6, 7), ((3, 2), (2, 3)), {"padding": (1, 1), "ceil_mode": True, "count_include_pad": False}),
    ("avg_pool2d", (3, 6, 7), (3, 2), {"padding": 1, "divisor_override": 5}),
    ("avg_pool2d", (1, 1, 1, 1), (2,), {"padding": 1, "stride": 1}),
    ("avg_pool2d", (1, 2, 5, 8), (2, 3, 1), {}),
    ("avg_pool3d", (2, 2, 4, 5, 4), (2,), {}),
    ("avg_pool3d", (2, 5, 4, 4), ((2, 3, 2), 2), {"padding": (1, 1, 0), "ceil_mode": True}),
    ("avg_pool3d", (2, 5, 4, 4), (3, 2), {"padding": 1, "count_include_pad": False, "ceil_mode": True}),
    ("avg_pool3d", (2, 4, 4, 4), (2,), {"divisor_override": 3}),
    ("lp_pool1d", (2, 3, 9), (2, 3), {}),
    ("lp_pool1d", (3, 9), (2.0, 3, 2), {"ceil_mode": True}),
    ("lp_pool2d", (2, 3, 6, 7), (2, 2), {}),
    ("lp_pool2d", (2, 3, 6, 7), (4, (3, 2), 2), {"ceil_mode": True}),
    ("lp_pool2d", (2, 3, 6, 7), (1, 2), {}),
    ("lp_pool3d", (2, 2, 4, 5, 4), (2, 2), {}),
]

# number of spatial axes, shape of x, sizes: dividing, overlapping, of one bin, more bins than elements
ADAPTIVE: list[tuple[int, Shape, Any]] = [
    (1, (2, 3, 8), 4),
    (1, (2, 3, 7), 3),
    (1, (3, 4), 7),
    (1, (3, 5), 1),
    (2, (2, 3, 6, 8), (3, 4)),
    (2, (2, 3, 7, 5), (3, 2)),
    (2, (2, 3, 4, 4), 6),
    (2, (2, 3, 7, 5), 1),
    (2, (3, 7, 5), (None, 3)),
    (2, (3, 7, 6), (2, 9)),
    (2, (2, 3, 1, 1), (2, 3)),
    (3, (2, 2, 4, 6, 4), 2),
    (3, (2, 5, 4, 3), (3, None, 5)),
]


def _labelled(name: str, x: Shape, args: Any, options: Any = "") -> str:
    return f"{name} {x} {args} {options or ''}".replace("'", "")


def _windows() -> list[Case]:
    cases = []
    for name, shape, args, options in WINDOWS:
        label = _labelled(name, shape, args, options)
        call = lambda F, x, name=name, args=args, options=options: getattr(F, name)(x, *args, **options)
        cases.append(Case(label, {"x": normal(label, *shape)}, call))
        if name.startswith("max"):
            call = lambda F, x, name=name, args=args, options=options: getattr(F, name)(
                x, *args, **options, return_indices=True
            )
            # small integers, so that many elements are equal
            x = numbers(label).randint(-2, 2, shape).astype(np.float64)
            cases.append(Case(f"{label} ties and indices", {"x": x}, call))
    return cases


def _adaptive() -> list[Case]:
    cases = []
    for spatial, shape, size in ADAPTIVE:
        for kind in ("avg", "max"):
            name = f"adaptive_{kind}_pool{spatial}d"
            label = _labelled(name, shape, size)
            call = lambda F, x, name=name, size=size: getattr(F, name)(x, size)
            cases.append(Case(label, {"x": normal(label, *shape)}, call))
        call = lambda F, x, name=name, size=size: getattr(F, name)(x, size, return_indices=True)
        x = numbers(label).randint(-2, 2, shape).astype(np.float64)
        cases.append(Case(f"{label} ties and indices", {"x": x}, call))
    return cases


def _extremes() -> list[Case]:
    cases = []
    ends = np.zeros((1, 1, 4, 5))
    ends[0, 0] = [[1e30, -1e30, 0, 1, 2], [-np.inf, 5, 6, np.inf, 7], [8, 9, 1e-40, 3, 1], [4, 2, 0, -3, -np.inf]]
    calls = {
        "max": lambda F, x: F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True),
        "max padded": lambda F, x: F.max_pool2d(x, 3, 2, 1),
        "avg": lambda F, x: F.avg_pool2d(x, 2, 1),
        "adaptive avg": lambda F, x: F.adaptive_avg_pool2d(x, (3, 3)),
        "adaptive max": lambda F, x: F.adaptive_max_pool2d(x, (3, 3), return_indices=True),
    }
    for name, call in calls.items():
        cases.append(Case(f"infinite {name}", {"x": ends}, call))
    lowest = np.full((1, 2, 3, 3), -np.inf)
    call = lambda F, x: F.max_pool2d(x, 2, 1, 1, return_indices=True)
    cases.append(Case("all of it -infinity", {"x": lowest}, call))
    for name in ("max_pool2d", "avg_pool2d"):
        cases.append(
            Case(f"{name} empty batch", {"x": np.zeros((0, 2, 4, 4))}, lambda F, x, name=name: getattr(F, name)(x, 2))
        )
    return cases


def _unpooling() -> list[Case]:
    cases = []
    for spatial, shape in ((1, (2, 3, 8)), (2, (2, 3, 6, 4)), (2, (3, 6, 4)), (3, (2, 2, 4, 4, 4))):

        def call(F: Any, x: Any, spatial: int = spatial) -> Any:
            y, indices = getattr(F, f"max_pool{spatial}d")(x, 2, return_indices=True)
            return getattr(F, f"max_unpool{spatial}d")(y * y, indices, 2)

        cases.append(Case(f"max_unpool{spatial}d {shape}", {"x": normal(f"unpool{shape}", *shape)}, call))

    def larger(F: Any, x: Any) -> Any:
        y, indices = F.max_pool2d(x, 3, 3, 1, return_indices=True)
        return F.max_unpool2d(y, indices, 3, 3, 1, output_size=(6, 8))

    return [*cases, Case("max_unpool2d output_size", {"x": normal("larger", 2, 3, 6, 8)}, larger)]


CASES = [*_windows(), *_adaptive(), *_extremes(), *_unpooling()]
