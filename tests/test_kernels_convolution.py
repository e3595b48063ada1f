"""Convolutions and their gradients on the software GPU: every schedule, layout, stride, dilation and group."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, nn
from backends.kernels.lowering import lower_region
from backends.kernels.schedules import contraction
from backends.kernels.schedules.contraction import Region, plan
from backends.kernels.schedules.contraction_schedules import scheduled
from backends.kernels.schedules.tiles import Direct, Skinny, Tile
from backends.kernels.target import Target
from tests import operations
from tests.kernel_runner import run_graph, run_plan
from tests.test_kernels_contraction import close, oracle, sample

pytest.importorskip("wgpu")
TARGET = Target()

# shape of the input, of the kernel, and the options
CASES = {
    "3x3": ((2, 6, 10, 9), (8, 6, 3, 3), {}),
    "3x3 of images whose rows are groups of four": ((2, 4, 8, 8), (20, 4, 3, 3), {}),
    "1x1": ((2, 16, 6, 6), (12, 16, 1, 1), {}),
    "7x7 stride 2": ((1, 3, 19, 22), (9, 3, 7, 7), {"window_strides": (2, 2), "padding": ((3, 3), (3, 3))}),
    "3x3 stride 2": ((2, 8, 12, 12), (16, 8, 3, 3), {"window_strides": (2, 2), "padding": ((1, 1), (1, 1))}),
    "1x1 stride 2": ((2, 8, 9, 8), (16, 8, 1, 1), {"window_strides": (2, 2), "padding": "VALID"}),
    "strides 3 and 2": ((2, 5, 11, 13), (12, 5, 4, 2), {"window_strides": (3, 2), "padding": ((2, 0), (1, 3))}),
    "negative padding": ((2, 5, 11, 13), (12, 5, 2, 3), {"padding": ((-2, 1), (0, -3))}),
    "dilated": ((2, 6, 11, 10), (10, 6, 3, 2), {"rhs_dilation": (2, 3)}),
    "transposed": ((2, 6, 5, 6), (10, 6, 3, 3), {"lhs_dilation": (2, 2), "padding": ((1, 2), (1, 2))}),
    "transposed, odd": ((2, 6, 5, 4), (10, 6, 4, 3), {"lhs_dilation": (2, 3), "padding": ((2, 1), (0, 4))}),
    "transposed, 1x1": ((2, 12, 4, 4), (10, 12, 1, 1), {"lhs_dilation": (2, 2), "padding": ((0, 1), (0, 1))}),
    "transposed and dilated": (
        (2, 6, 5, 6), (10, 6, 2, 3), {"lhs_dilation": (2, 2), "rhs_dilation": (2, 1), "padding": ((2, 2), (2, 2))},
    ),
    "transposed with strides": (
        (2, 6, 5, 6), (10, 6, 3, 3), {"lhs_dilation": (3, 2), "window_strides": (2, 3), "padding": ((1, 1), (2, 2))},
    ),
    "groups": ((2, 8, 9, 8), (12, 4, 3, 3), {"feature_group_count": 2}),
    "many channels in groups": ((1, 40, 6, 6), (24, 20, 3, 3), {"feature_group_count": 2}),
    "depthwise": ((2, 6, 9, 8), (6, 1, 3, 3), {"feature_group_count": 6}),
    "depthwise stride 2 by 2": ((2, 4, 9, 8), (8, 1, 3, 3), {"feature_group_count": 4, "window_strides": (2, 2)}),
    "groups of the batch": ((4, 6, 5, 5), (6, 6, 3, 3), {"batch_group_count": 2}),
    "deep": ((1, 70, 6, 6), (12, 70, 3, 3), {}),
    "steps of one tap": ((2, 16, 9, 8), (20, 16, 3, 3), {}),
    "steps of one tap, stride 2": (
        (2, 24, 9, 8), (12, 24, 3, 3), {"window_strides": (2, 2), "padding": ((1, 1), (1, 1))},
    ),
    "steps of one tap, groups": ((2, 32, 6, 6), (8, 16, 3, 2), {"feature_group_count": 2}),
    "steps of one tap, transposed": (
        (2, 16, 5, 6), (20, 16, 3, 3), {"lhs_dilation": (2, 2), "padding": ((1, 2), (1, 2))},
    ),
    "steps of one tap, transposed 1x1": (
        (2, 32, 4, 4), (20, 32, 1, 1), {"lhs_dilation": (2, 2), "padding": ((0, 1), (0, 1))},
    ),
    "steps of one tap, transposed by 3 and 2": (
        (2, 8, 4, 5), (20, 8, 5, 3), {"lhs_dilation": (3, 2), "padding": ((2, 4), (1, 2))},
    ),
    "1-d": ((2, 5, 40), (9, 5, 5), {"window_strides": (2,)}),
    "1-d transposed": ((2, 5, 12), (9, 5, 4), {"lhs_dilation": (2,), "padding": ((2, 2),)}),
    "3-d": ((2, 4, 5, 6, 5), (6, 4, 3, 2, 3), {}),
    "3-d transposed": ((1, 4, 3, 3, 4), (6, 4, 2, 2, 2), {"lhs_dilation": (2, 2, 2), "padding": ((1, 1),) * 3}),
    "no space": ((7, 30), (20, 30), {}),
}  # fmt: skip
LAST = {2: ("NC", "IO", "NC"), 3: ("NHC", "HIO", "NHC"), 4: ("NHWC", "HWIO", "NHWC"), 5: ("NHWDC", "HWDIO", "NHWDC")}
FIRST = {2: ("NC", "OI", "NC"), 3: ("NCH", "OIH", "NCH"), 4: ("NCHW", "OIHW", "NCHW"), 5: ("NCHWD", "OIHWD", "NCHWD")}


def convolution(case, layout):
    """A convolution of operands in a layout, and these operands."""
    x_shape, w_shape, options = CASES[case]
    options = {"window_strides": (1,) * (len(x_shape) - 2), "padding": "SAME", **options}
    names, first = layout[len(x_shape)], FIRST[len(x_shape)]
    x, w = (
        sample(*shape).transpose([a.index(c) for c in b])
        for shape, a, b in zip((x_shape, w_shape), first, names, strict=False)
    )
    f = lambda x, w: lax.conv_general_dilated(x, w, **options, dimension_numbers=names)
    return f, (np.ascontiguousarray(x), np.ascontiguousarray(w))


def check(f, args, schedule=None, tolerance=2e-4):
    asg, expected = oracle(f, args)
    asg = asgfn.simplify(asg)
    found = plan(asg, TARGET) if schedule is None else scheduled(Region(asg, TARGET.types), schedule, TARGET)
    close(run_plan(found, asg.inputs, asg.out_types, args, TARGET.types), expected, tolerance)


@pytest.mark.parametrize("layout", [FIRST, LAST], ids=["channels first", "channels last"])
@pytest.mark.parametrize("case", CASES)
def test_forward(case, layout):
    f, args = convolution(case, layout)
    for schedule in (None, Tile(32, 32, 8), Direct(4)):
        check(f, args, schedule)


@pytest.mark.parametrize(
    "schedule", [Tile(64, 32, 16, buffers=2, split=2), Skinny(2, 4, 16, 8), Skinny(3, 1, 4, 16, split=2)], ids=str
)
@pytest.mark.parametrize("case", ["3x3", "strides 3 and 2", "transposed", "groups", "depthwise", "groups of the batch"])
def test_schedules(case, schedule):
    check(*convolution(case, FIRST), schedule)


@pytest.mark.parametrize("layout", [FIRST, LAST], ids=["channels first", "channels last"])
@pytest.mark.parametrize("case", CASES)
def test_gradients(case, layout):
    f, (x, w) = convolution(case, layout)
    weights = sample(*np.shape(f(x, w)))
    loss = lambda x, w, weights: jnp.sum(f(x, w) * weights)
    asg, expected = oracle(asgfn.grad(loss, (0, 1)), (x, w, weights))
    close(run_graph(asg, (x, w, weights)), expected, 1e-3)
    assert not run_graph.host


ONE_TAP = [case for case in CASES if case.startswith("steps of one tap")]


@pytest.mark.parametrize(
    "schedule", [Tile(32, 32, 8, buffers=2, split=3), Tile(32, 16, 4, split=5), Tile(16, 32, 16)], ids=str
)
@pytest.mark.parametrize("case", ONE_TAP)
def test_steps_of_one_tap(case, schedule):
    """Where channels are whole steps, each step sees one tap, and classes of positions have only the steps that they need."""
    for layout in (FIRST, LAST):
        check(*convolution(case, layout), schedule)


@pytest.mark.parametrize("layout", [FIRST, LAST], ids=["channels first", "channels last"])
@pytest.mark.parametrize("case", ["3x3", "7x7 stride 2", "1-d", "dilated", "deep", *ONE_TAP])
def test_kernels_in_another_order(case, layout, monkeypatch):
    """A convolution's kernel is first brought into an order in which output features are neighbours."""
    monkeypatch.setattr(contraction, "PACKED_FEATURES", 4)
    monkeypatch.setattr(contraction, "PACKED_USES", 1)
    f, (x, w) = convolution(case, layout)
    out = f(x, w)
    asg, expected = oracle(lambda x, w, r: nn.relu(f(x, w * 2.0) + r), (x, w, out))
    asg = asgfn.simplify(asg)
    found = plan(asg, TARGET)
    first = layout is FIRST and w.shape[0] % 4 == 0 and np.prod(w.shape[2:]) > 1
    assert found.stages[0].kernel.name.endswith(" kernel") == first
    close(run_plan(found, asg.inputs, asg.out_types, (x, w, out), TARGET.types), expected, 2e-4)
    if first:
        loss = lambda x, w: jnp.sum(f(x, w) * out)
        asg, expected = oracle(asgfn.grad(loss, (0, 1)), (x, w))
        close(run_graph(asg, (x, w)), expected, 1e-3)


@pytest.mark.parametrize("case", ["3x3", "depthwise", "transposed", "1-d"])
def test_epilogues(case):
    f, (x, w) = convolution(case, FIRST)
    out = sample(*np.shape(f(x, w)))
    bias = sample(1, out.shape[1], *(1,) * (out.ndim - 2))
    for schedule in (None, Tile(32, 32, 8, split=2)):
        check(lambda x, w, b, r: nn.relu(f(x * 2.0, w) + b + r), (x, w, bias, out), schedule)


def test_values_that_are_not_finite():
    """Padding adds nothing, whatever it is multiplied by."""
    f, (x, w) = convolution("3x3", FIRST)
    w[0, 0, 0, 0], w[1, 0, 2, 2], x[0, 1, 9, 8] = np.inf, np.nan, -np.inf
    for schedule in (None, Tile(32, 32, 8, buffers=2), Direct(1)):
        check(f, (x, w), schedule)


@pytest.mark.parametrize("dtype", ["int32", "int8", "float16", "bfloat16", "bool"])
def test_dtypes(dtype):
    dtype = jnp.dtype(dtype)
    x, w = sample(2, 5, 9, 8, dtype=dtype), sample(12, 5, 3, 3, dtype=dtype)
    tolerance = {"float16": 4e-3, "bfloat16": 3e-2}.get(dtype.name, 1e-5)
    f = lambda x, w: lax.conv(x, w, (1, 1), "SAME")
    for schedule in (None, Tile(32, 32, 8)):
        check(f, (x, w), schedule, tolerance)
    if dtype.kind != "b":
        wide = np.int32 if dtype.kind == "i" else np.float32
        check(lambda x, w: lax.conv(x, w, (1, 1), "SAME", preferred_element_type=wide), (x, w), None, 1e-3)


_CONVOLUTIONS = [o for o in operations.OPERATIONS if o.primitive == "conv_general_dilated"]


@pytest.mark.parametrize("op", _CONVOLUTIONS, ids=range(len(_CONVOLUTIONS)))
def test_operations(op):
    for args in op.samples:
        args = [np.asarray(a, np.float32) for a in args]
        asg, expected = oracle(op.f, args)
        close(run_graph(asg, args), expected)
        assert not run_graph.host


def test_an_element_of_a_convolution_without_a_schedule():
    """Any graph that holds a convolution can be computed element by element."""
    for case in ("strides 3 and 2", "transposed", "groups", "groups of the batch"):
        f, args = convolution(case, FIRST)
        asg, expected = oracle(lambda x, w: f(x, w)[:, ::2] + 1.0, args)
        found = lower_region(asgfn.simplify(asg), "elementwise", TARGET)
        close(run_plan(found, asg.inputs, asg.out_types, args, TARGET.types), expected)


def test_a_network():
    def loss(params, x):
        x = nn.relu(lax.conv(x, params[0], (1, 1), "SAME") + params[1])
        y = lax.conv_general_dilated(x, params[2], (2, 2), ((1, 1), (1, 1)))
        x = nn.relu(y + lax.conv_general_dilated(x, params[3], (2, 2), ((0, 0), (0, 0))))
        return jnp.mean(jnp.mean(x, (2, 3)) @ params[4])

    shapes = [(8, 3, 3, 3), (8, 1, 1), (16, 8, 3, 3), (16, 8, 1, 1), (16, 5)]
    args = [*(sample(*s) * 0.3 for s in shapes), sample(2, 3, 12, 12)]
    f = lambda *a: asgfn.tree.leaves(asgfn.value_and_grad(loss, (0, 1))(list(a[:-1]), a[-1]))
    asg, expected = oracle(f, args)
    close(run_graph(asg, args), expected, 1e-3)
    assert not run_graph.host
