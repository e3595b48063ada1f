"""Interpolation, padding, pixel shuffles, folding and grid sampling, as PyTorch computes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.references import Case, normal

Shape = tuple[int, ...]

INTERPOLATIONS: list[tuple[Shape, dict[str, Any]]] = [
    ((2, 3, 7), {"size": 14}),
    ((2, 3, 7), {"size": 5}),
    ((2, 3, 7), {"size": (16,)}),
    ((2, 3, 7), {"scale_factor": 1.7}),
    ((2, 2, 4, 5), {"scale_factor": 3}),
    ((2, 2, 8, 9), {"scale_factor": (0.5, 1 / 3)}),
    ((2, 2, 5, 6), {"size": (3, 13)}),
    ((2, 2, 5, 6), {"scale_factor": (2.3, 0.6), "recompute_scale_factor": True}),
    ((1, 2, 3, 4, 5), {"size": (6, 3, 7)}),
    ((2, 2, 3, 4), {"scale_factor": (1.3, 2.1)}),
    ((2, 3, 7), {"size": 5, "mode": "nearest-exact"}),
    ((2, 3, 7), {"scale_factor": 2.5, "mode": "nearest-exact"}),
    ((2, 2, 4, 5), {"scale_factor": 2, "mode": "nearest-exact"}),
    ((2, 2, 9, 6), {"size": (3, 2), "mode": "nearest-exact"}),
    ((1, 2, 3, 4, 5), {"size": (6, 3, 7), "mode": "nearest-exact"}),
    ((2, 3, 7), {"size": 13, "mode": "linear"}),
    ((2, 3, 7), {"size": 4, "mode": "linear", "align_corners": True}),
    ((2, 3, 7), {"scale_factor": 1.7, "mode": "linear"}),
    ((2, 3, 7), {"scale_factor": 1.7, "mode": "linear", "recompute_scale_factor": True}),
    ((2, 3, 7), {"size": 7, "mode": "linear"}),
    ((2, 3, 1), {"size": 4, "mode": "linear"}),
    ((2, 2, 4, 5), {"scale_factor": 2, "mode": "bilinear"}),
    ((2, 2, 4, 5), {"size": (7, 3), "mode": "bilinear", "align_corners": True}),
    ((2, 2, 3, 4), {"scale_factor": (1.3, 2.1), "mode": "bilinear"}),
    ((2, 2, 4, 5), {"size": (1, 5), "mode": "bilinear", "align_corners": True}),
    ((2, 2, 9, 10), {"size": (4, 3), "mode": "bilinear", "antialias": True}),
    ((2, 2, 4, 10), {"size": (9, 4), "mode": "bilinear", "antialias": True, "align_corners": True}),
    ((2, 2, 9, 10), {"scale_factor": (0.3, 0.45), "mode": "bilinear", "antialias": True}),
    ((2, 2, 4, 5), {"scale_factor": 2, "mode": "bicubic"}),
    ((2, 2, 4, 5), {"size": (7, 3), "mode": "bicubic", "align_corners": True}),
    ((2, 2, 6, 7), {"scale_factor": (0.6, 1.4), "mode": "bicubic"}),
    ((2, 2, 9, 10), {"size": (4, 3), "mode": "bicubic", "antialias": True}),
    ((2, 2, 4, 10), {"size": (9, 4), "mode": "bicubic", "antialias": True}),
    ((1, 2, 3, 4, 3), {"size": (5, 2, 7), "mode": "trilinear"}),
    ((1, 2, 3, 4, 3), {"scale_factor": 2, "mode": "trilinear", "align_corners": True}),
    ((2, 3, 7), {"size": 3, "mode": "area"}),
    ((2, 2, 6, 8), {"scale_factor": 0.5, "mode": "area"}),
    ((2, 2, 5, 6), {"size": (3, 8), "mode": "area"}),
    ((1, 2, 3, 4, 5), {"size": 2, "mode": "area"}),
]

PADS: list[tuple[Shape, tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 5), (1, 2), {}),
    ((2, 3, 5), (1, 2, 0, 3, 1, 0), {"value": 2.5}),
    ((2, 3, 5), (-1, 2, 1, -2), {"value": -np.inf}),
    ((2, 3, 5), (0, 0), {}),
    ((4,), (2, 1), {}),
    ((2, 3, 5), (4, 3), {"mode": "reflect"}),
    ((2, 3, 5, 6), (1, 2, 3, 4), {"mode": "reflect"}),
    ((2, 3, 4, 3, 4), (1, 2, 2, 0, 3, 1), {"mode": "reflect"}),
    ((2, 3, 5), (-1, 3), {"mode": "reflect"}),
    ((2, 3, 5), (7, 6), {"mode": "replicate"}),
    ((2, 3, 1, 6), (1, 2, 3, 4), {"mode": "replicate"}),
    ((2, 3, 4, 3, 4), (1, 2, 2, 0, 3, 1), {"mode": "replicate"}),
    ((2, 3, 5), (5, 3), {"mode": "circular"}),
    ((2, 3, 5, 4), (2, -1, -2, 1), {"mode": "circular"}),
    ((2, 3, 5, 4), (3, -2, -2, 3), {"mode": "reflect"}),
    ((2, 3, 5, 4), (3, -2, -2, 7), {"mode": "replicate"}),
    ((2, 3, 5, 6), (1, 2, 3, 5), {"mode": "circular"}),
    ((2, 3, 4, 3, 4), (1, 2, 2, 0, 3, 1), {"mode": "circular"}),
]

WINDOWS: list[tuple[Shape, dict[str, Any]]] = [
    ((2, 3, 5, 6), {"kernel_size": 2}),
    ((2, 3, 5, 6), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
    ((3, 7, 6), {"kernel_size": 3, "dilation": (2, 1), "padding": 1, "stride": 2}),
    ((1, 1, 1, 1), {"kernel_size": 1}),
]


def _interpolations() -> list[Case]:
    cases = []
    for shape, options in INTERPOLATIONS:
        label = f"interpolate {shape} {options}".replace("'", "")
        call = lambda F, x, options=options: F.interpolate(x, **options)
        cases.append(Case(label, {"x": normal(label, *shape)}, call))
    single = np.array([[[[np.inf, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0], [8.0, 9.0, 1e30, 1e-40]]]])
    for mode in ("nearest", "area"):
        call = lambda F, x, mode=mode: F.interpolate(x, (2, 7), mode=mode)
        cases.append(Case(f"interpolate infinite {mode}", {"x": single}, call))
    return cases


def _pads() -> list[Case]:
    cases = []
    for shape, pad, options in PADS:
        label = f"pad {shape} {pad} {options or ''}".replace("'", "")
        call = lambda F, x, pad=pad, options=options: F.pad(x, pad, **options)
        cases.append(Case(label, {"x": normal(label, *shape)}, call))
    integers = lambda F, x: F.pad(x, (1, 1), value=7)
    return [*cases, Case("pad integers", {"x": np.arange(6).reshape(2, 3)}, integers)]


def _shuffles() -> list[Case]:
    cases = []
    for shape in ((2, 18, 2, 3), (9, 2, 3), (2, 1, 9, 1, 4)):
        cases.append(Case(f"pixel_shuffle {shape}", {"x": normal("s", *shape)}, lambda F, x: F.pixel_shuffle(x, 3)))
    for shape in ((2, 3, 4, 6), (1, 4, 6), (2, 1, 2, 4, 2)):
        cases.append(Case(f"pixel_unshuffle {shape}", {"x": normal("u", *shape)}, lambda F, x: F.pixel_unshuffle(x, 2)))
    for shape in ((2, 6, 3), (2, 6, 2, 2)):
        cases.append(Case(f"channel_shuffle {shape}", {"x": normal("c", *shape)}, lambda F, x: F.channel_shuffle(x, 3)))
    return cases


def _windows() -> list[Case]:
    cases = []
    for shape, options in WINDOWS:
        label = f"{shape} {options}".replace("'", "")
        call = lambda F, x, options=options: F.unfold(x, **options)
        cases.append(Case(f"unfold {label}", {"x": normal(label, *shape)}, call))

        def back(F: Any, x: Any, shape: Shape = shape, options: dict = options) -> Any:
            return F.fold(F.unfold(x, **options) ** 2, shape[-2:], **options)

        cases.append(Case(f"fold {label}", {"x": normal(label, *shape)}, back))
    return cases


def _grids() -> list[Case]:
    cases = []
    for align in (False, True):
        for theta, size in (((2, 2, 3), (2, 3, 4, 5)), ((1, 3, 4), (1, 1, 2, 3, 4)), ((1, 2, 3), (1, 1, 1, 1))):
            call = lambda F, theta, size=size, align=align: F.affine_grid(theta, size, align_corners=align)
            cases.append(Case(f"affine_grid {size} {align}", {"theta": normal("theta", *theta)}, call))
        for mode in ("bilinear", "nearest", "bicubic"):
            for padding in ("zeros", "border", "reflection"):
                label = f"grid_sample {mode} {padding} {align}"
                call = lambda F, x, grid, mode=mode, padding=padding, align=align: F.grid_sample(
                    x, grid, mode, padding, align_corners=align
                )
                for x, grid in (
                    ((2, 3, 4, 5), (2, 3, 4, 2)),
                    ((1, 2, 3, 4, 2), (1, 2, 2, 2, 3)),
                    ((1, 1, 1, 1), (1, 2, 2, 2)),
                ):
                    if mode == "bicubic" and len(x) == 5:
                        continue
                    inputs = {"x": normal(label, *x), "grid": normal(label, *grid, scale=1.2)}
                    # of a single element the bicubic slope is a sum that cancels: 1e-16 is what is left of it
                    constant = ("grid",) if mode == "bicubic" and x[-1] == 1 else ()
                    cases.append(Case(f"{label} {x}", inputs, call, constant=constant, float32_tol=1e-4))
    far = np.array([[[[1e9, 0.3], [-1e9, -0.2], [0.1, 1e9]]]])
    call = lambda F, x, grid: F.grid_sample(x, grid, align_corners=False)
    return [*cases, Case("grid_sample far", {"x": normal("far", 1, 2, 3, 4), "grid": far}, call)]


CASES = [*_interpolations(), *_pads(), *_shuffles(), *_windows(), *_grids()]
