"""Matrix products on tensor cores, with matrices emulated on the software GPU; and how floats become 16-bit ones."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, nn
from backends.kernels.autotune import candidates
from backends.kernels.ir import F32, U32, Builder
from backends.kernels.schedules import tensor_pieces
from backends.kernels.schedules.contraction import Region, plan
from backends.kernels.schedules.contraction_schedules import problem_of, scheduled
from backends.kernels.schedules.matmul_tensor import fits
from backends.kernels.schedules.tensor_pieces import Pieces, pieces_of
from backends.kernels.schedules.tiles import TensorTile, Tile
from backends.kernels.target import MatrixShape, Target
from backends.kernels.types import Types
from backends.wgsl import DAWN, source
from tests.kernel_interpreter import run_body
from tests.kernel_runner import device, run_plan

rng = np.random.default_rng(0)
SHAPE = MatrixShape("f16", "f32", 16, 16, 16)
TARGET = Target(types=Types(half=True), workgroup_bytes=32768, subgroup=(32, 32), subgroup_matrix=(SHAPE,))
TILES = [
    TensorTile(32, 32, 16, 16, 32),
    TensorTile(32, 32, 32, 32, 16, buffers=2),
    TensorTile(16, 32, 16, 16, 16, split=2),
]
# the error of a product, relative to that of the magnitudes of its terms
ERROR = {"default": 5e-4, "high": 1e-6}


def sample(*shape, dtype=np.float32):
    return rng.normal(size=shape).astype(dtype)


def region_of(f, *args) -> Region:
    asg = asgfn.simplify(asgfn.trace(f)(*args))
    return Region(asg, TARGET.types)


def run(f, *args, tile=TILES[0]):
    """What a program that is one region gives with this tile."""
    pytest.importorskip("wgpu")
    if "shader-f16" not in device().features:
        pytest.skip("the adapter has no 16-bit floats")
    region = region_of(f, *args)
    found = scheduled(region, tile, TARGET)
    assert len(found.stages) == 1 + (tile.split > 1) + pieces_of(region, TARGET).scaled
    return run_plan(found, region.asg.inputs, region.asg.out_types, args, TARGET.types)[0]


def check(precision, x, y, tile=TILES[0]):
    """Asserts that a product has the error that its precision allows."""
    found = run(lambda x, y: jnp.matmul(x, y, precision=precision), x, y, tile=tile)
    exact = x.astype(np.float64) @ y.astype(np.float64)
    allowed = np.abs(x).astype(np.float64) @ np.abs(y) * ERROR[precision]
    assert np.all(np.abs(found - exact) <= allowed)
    return found


# ---------------------------------------------------------------------------------------------- products
@pytest.mark.parametrize("tile", TILES, ids=str)
@pytest.mark.parametrize("precision", ["default", "high"])
def test_tiles(tile, precision):
    check(precision, sample(40, 72), sample(72, 36), tile)


@pytest.mark.parametrize("m, k, n", [(16, 16, 16), (33, 50, 19), (70, 9, 5), (1, 130, 64), (17, 31, 33)])
def test_sizes(m, k, n):
    check("high", sample(m, k), sample(k, n))


@pytest.mark.parametrize("transposed", [(False, True), (True, False), (True, True)])
def test_layouts(transposed):
    x, y = sample(36, 40), sample(40, 44)
    x_, y_ = (np.ascontiguousarray(a.T) if turned else a for a, turned in zip((x, y), transposed, strict=True))

    def f(x, y):
        return jnp.matmul(x.T if transposed[0] else x, y.T if transposed[1] else y, precision="high")

    np.testing.assert_allclose(run(f, x_, y_), x @ y, atol=2e-5)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_short_floats_are_multiplied_as_they_are(dtype):
    x, y = sample(20, 36, dtype=dtype), sample(36, 24, dtype=dtype)

    def f(x, y):
        return jnp.matmul(x, y, preferred_element_type=np.float32, precision="highest")

    assert pieces_of(region_of(f, x, y), TARGET) == Pieces(1, 1, scaled=dtype != np.float16)
    np.testing.assert_allclose(run(f, x, y), x.astype(np.float64) @ y.astype(np.float64), atol=1e-5)
    if dtype == np.float16:
        rounded = run(lambda x, y: x @ y, x, y)
        assert rounded.dtype == np.float16
        np.testing.assert_allclose(
            rounded.astype(np.float32), x.astype(np.float64) @ y.astype(np.float64), rtol=1e-3, atol=1e-3
        )


def test_what_is_done_before_and_after():
    x, y, bias, rest = sample(2, 24, 36), sample(2, 36, 20), sample(20), sample(2, 24, 20)

    def f(x, y, bias, rest):
        return nn.gelu(jnp.matmul(jnp.exp(x), y * 2, precision="high") + bias) + rest

    expected = asgfn.get_backend("numpy").compile(asgfn.trace(f)(x, y, bias, rest))([x, y, bias, rest])[0]
    for tile in (TILES[0], TILES[2]):
        np.testing.assert_allclose(run(f, x, y, bias, rest, tile=tile), expected, rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 2)])
def test_convolutions(stride, dilation):
    x, w = sample(2, 6, 9, 8), sample(20, 6, 3, 3)

    def f(x, w):
        return lax.conv_general_dilated(
            x, w, (stride, stride), ((1, 1), (1, 1)), rhs_dilation=(dilation, dilation), precision="high"
        )

    expected = asgfn.get_backend("numpy").compile(asgfn.trace(f)(x, w))([x, w])[0]
    np.testing.assert_allclose(run(f, x, w), expected, atol=5e-5)


# ---------------------------------------------------------------------------------------------- extreme numbers
@pytest.mark.parametrize("precision", ["default", "high"])
@pytest.mark.parametrize(
    "a, b", [(1e30, 1e-30), (1e-30, 1e-5), (1e18, 1e19), (1e-36, 1e37), (1e38, 1e-38), (60000, 70000)]
)
def test_any_scale(precision, a, b):
    x, y = sample(18, 40) * np.float32(a) / 8, sample(40, 20) * np.float32(b) / 8
    check(precision, x, y)


def test_a_result_overflows_only_if_it_is_too_large():
    x, y = np.full((16, 32), 1e30, np.float32), np.full((32, 16), 1e30, np.float32)
    assert np.all(run(lambda x, y: x @ y, x, y) == np.inf)
    assert np.all(run(lambda x, y: x @ y, x, -y) == -np.inf)


def test_zeros():
    assert np.all(run(lambda x, y: x @ y, np.zeros((16, 20), np.float32), sample(20, 16)) == 0)


def test_a_wide_range_in_one_operand():
    x, y = sample(24, 40), sample(40, 20)
    rows = np.float32(2.0) ** -np.arange(24, dtype=np.float32)[:, None]
    check("default", x * rows, y)
    check("high", x * np.sqrt(rows) * np.float32(1e20), y)


@pytest.mark.parametrize("precision", ["default", "high"])
@pytest.mark.parametrize("tile", [TILES[0], TILES[2]], ids=str)
def test_numbers_that_are_not_finite(precision, tile):
    """Results are those of IEEE arithmetic, also where a small number meets an infinity."""
    x, y = sample(20, 40), sample(40, 24)
    x[3, 5], x[4, 6], x[4, 7], y[9, 2], y[11, 3] = np.inf, np.inf, -np.inf, np.nan, -np.inf
    y[5, :4] = [1e-30, 0, -1e-30, 1]
    found = run(lambda x, y: jnp.matmul(x, y, precision=precision), x, y, tile=tile)
    with np.errstate(invalid="ignore"):
        expected = x @ y
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------------------------- arithmetic
def _computed(write, *inputs):
    """What register code makes of arrays."""
    b = Builder()
    known = {}
    values = []
    for x in inputs:
        value = b.op("input", dtype={"f": F32, "u": U32}[x.dtype.kind], attr=len(values))
        known[value] = x
        values.append(value)
    results = list(write(b, *values))
    return run_body(b.body, known, results, fused=True)


def test_pieces_add_up():
    x = (rng.normal(size=5000) * 2.0 ** rng.integers(-10, 12, 5000)).astype(np.float32)
    (one,) = _computed(lambda b, v: tensor_pieces.split(b, v, 1), x)
    high, low = _computed(lambda b, v: tensor_pieces.split(b, v, 2), x)
    total = high.astype(np.float64) + low.astype(np.float64)
    # below these bounds, 16-bit floats are subnormal
    for found, bound, error in ((one, 2**-14, 2**-11), (total, 2**-2, 2**-22)):
        assert np.max(np.abs(found.astype(np.float64) - x) / np.maximum(np.abs(x), bound)) <= error


@pytest.mark.parametrize("largest", [0.0, 1e-44, 1.2e-38, 1e-30, 1.0, 65520.0, 1e30, 3.4e38])
def test_scales(largest):
    x = np.array([largest], np.float32)
    (scale,) = _computed(lambda b, v: [tensor_pieces.power(b, tensor_pieces.exponent(b, v))], x.view(np.uint32))
    scaled = float(x[0]) * float(scale[0])
    assert scaled < 2 ** (tensor_pieces.TOP + 1)
    assert scaled >= 2**tensor_pieces.TOP or largest < 2.0**-112
    for other in (1e-44, 1.0, 3.4e38):
        y = np.array([other], np.float32)

        def undo(b, v, w):
            exponents = tensor_pieces.exponent(b, v), tensor_pieces.exponent(b, w)
            return [*(tensor_pieces.power(b, e) for e in exponents), *tensor_pieces.unscales(b, exponents)]

        a, c, first, second = (float(v[0]) for v in _computed(undo, x.view(np.uint32), y.view(np.uint32)))
        assert a * c * first * second == 1.0 and first > 0 and second > 0


# ---------------------------------------------------------------------------------------------- which schedule
def test_precision_decides():
    x, y = sample(512, 512), sample(512, 512)

    def problem(precision, target=TARGET, x=x):
        return problem_of(region_of(lambda x, y: jnp.matmul(x, y, precision=precision), x, y), target)

    assert problem(None).pieces == problem("default").pieces == Pieces(1, 1, True)
    assert problem("high").pieces == Pieces(2, 2, True) and problem("high").pieces.products == 3
    assert problem(("default", "high")).pieces == Pieces(1, 2, True)
    assert problem("highest").pieces is problem(("high", "highest")).pieces is None
    assert problem(None, Target(types=Types(half=True))).pieces is None
    assert problem(None, Target(types=Types(half=True), subgroup=(8, 32), subgroup_matrix=(SHAPE,))).pieces is None
    assert isinstance(candidates(problem(None), TARGET)[0], TensorTile)
    assert all(isinstance(s, Tile) for s in candidates(problem("highest"), TARGET))
    assert len({problem(p).key() for p in (None, "high", "highest")}) == 3
    with asgfn.default_matmul_precision("highest"):
        assert problem(None).pieces is None
    integers = np.ones((512, 512), np.int32)
    assert problem_of(region_of(lambda x: x @ x, integers), TARGET).pieces is None


def test_a_swapped_product_keeps_its_precisions():
    def f(x, y):
        return jnp.matmul(x, y, precision=("high", "default")).T

    region = region_of(f, sample(48, 32), sample(32, 64))
    first = region.product.rows.value == region.node.inputs[0]
    assert pieces_of(region, TARGET) == (Pieces(2, 1, True) if first else Pieces(1, 2, True))


def test_tiles_keep_to_the_device():
    one, both = Pieces(1, 1, True), Pieces(2, 2, True)
    assert fits(TensorTile(128, 128, 16), one, TARGET)
    assert not fits(TensorTile(128, 128, 16, buffers=2), both, TARGET)
    assert not fits(TensorTile(32, 32, 8, 16, 16), one, TARGET)
    assert not fits(TensorTile(32, 32, 16, 16, 16, subgroup=64), one, TARGET)
    assert not fits(TensorTile(256, 256, 16, 32, 32), one, TARGET)


def test_a_region_with_many_operands_has_no_scales():
    """The kernel may be called with so many memories; one more would be too many."""
    operands = [sample(64, 64) for _ in range(6)]

    def f(x, y, *rest):
        return sum(rest, x @ y)

    target = Target(**{**vars(TARGET), "buffers": 7})
    found = plan(region_of(f, sample(64, 64), sample(64, 64), *operands[:4]).asg, target)
    assert len(found.stages) == 1 and len(found.stages[0].arguments) == 7


def test_text_for_dawn():
    region = region_of(lambda x, y: x @ y, sample(256, 256), sample(256, 256))
    found = scheduled(region, TensorTile(128, 128, 16), TARGET)
    text = source(found.stages[1].kernel, DAWN)
    assert text.count("subgroupMatrixMultiplyAccumulate(") == 16
    assert text.count("subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&shared1") == 4
    for line in ("enable f16;", "enable subgroups;", "enable chromium_experimental_subgroup_matrix;"):
        assert line in text.splitlines()
