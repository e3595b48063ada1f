"""Transforms: values, shapes, dtypes, layouts, randomness, errors."""

from __future__ import annotations

import pickle
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgfn.errors import DTypeError, ShapeError
from nn_fn.data import transforms as T
from nn_fn.data.transforms.images import _rotate

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 3, 8, 6), np.uint8)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


ALL = [
    T.ToFloat(),
    T.OneHot(256),
    T.Clip(3, 200),
    T.Log(),
    T.Flatten(),
    T.GaussianNoise(0.1),
    T.Normalize.imagenet(),
    T.Normalize.fit(RGB),
    T.StandardScaler.fit(RGB),
    T.MinMaxScaler.fit(RGB),
    T.RandomCrop(5, padding=1),
    T.RandomHorizontalFlip(),
    T.RandomVerticalFlip(0.3),
    T.RandomRotation(30),
    T.RandomErasing(1.0),
    T.Compose([T.ToFloat(), T.GaussianNoise(0.1), T.RandomCrop(4)]),
    T.ApplyTo(0, T.RandomRotation((10, 20))),
]


def call(transform, x, seed=0):
    return transform(x, generator(seed)) if getattr(transform, "random", False) else transform(x)


def argument_of(transform):
    x = RGB.astype(np.float32) if isinstance(transform, T.GaussianNoise) else RGB
    return (x, 1) if isinstance(transform, T.ApplyTo) else x


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_transforms_are_values_that_leave_their_argument_alone(transform):
    again = pickle.loads(pickle.dumps(transform))
    assert again == transform and hash(again) == hash(transform)
    with pytest.raises(AttributeError):
        transform.something = 1
    x = argument_of(transform)
    before = pickle.dumps(x)
    y, z = call(transform, x), call(again, x)
    assert pickle.dumps(x) == before
    for a, b in zip(*((v if isinstance(v, tuple) else (v,)) for v in (y, z)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("transform", [t for t in ALL if getattr(t, "random", False)], ids=lambda t: type(t).__name__)
def test_random_transforms_follow_their_generator_and_are_fresh_in_each_call(transform):
    x = argument_of(transform)
    first = lambda v: v[0] if isinstance(v, tuple) else v
    rng = generator(1)
    one, two = first(transform(x, rng)), first(transform(x, rng))
    np.testing.assert_array_equal(one, first(call(transform, x, 1)))
    assert not np.array_equal(one, two)


@pytest.mark.parametrize(
    "make",
    [
        lambda layout: T.RandomCrop((5, 4), padding=(1, 2), padding_mode="reflect", layout=layout),
        lambda layout: T.RandomHorizontalFlip(layout=layout),
        lambda layout: T.RandomVerticalFlip(layout=layout),
        lambda layout: T.RandomRotation(40, fill=7, layout=layout),
        lambda layout: T.RandomErasing(1.0, layout=layout),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_image_transforms_agree_in_all_layouts_and_keep_dtypes(make, dtype):
    x = RGB.astype(dtype)
    y = make("CHW")(x, generator())
    assert y.dtype == dtype
    np.testing.assert_array_equal(make(None)(x, generator()), y)
    last = make("HWC")(np.moveaxis(x, 1, -1), generator())
    np.testing.assert_array_equal(np.moveaxis(last, -1, 1), y)
    # more batch axes
    np.testing.assert_array_equal(make("CHW")(x[:, None], generator())[:, 0], y)
    # all channels of an image change alike: the first one as if it were alone
    np.testing.assert_array_equal(make("HW")(x[:, 0], generator()), y[:, 0])
    # one image, and none
    assert make("CHW")(x[0], generator()).shape == y.shape[1:]
    assert make("CHW")(x[:0], generator()).shape == (0, *y.shape[1:])
    assert make("CHW")(x[:, :0], generator()).shape == (5, 0, *y.shape[2:])
    # strides in memory do not matter
    np.testing.assert_array_equal(make("CHW")(np.asfortranarray(x), generator()), y)


def test_images_of_a_batch_change_independently():
    same_image = np.repeat(RGB[:1], 64, axis=0)
    for make in (lambda **k: T.RandomCrop(6, padding=2, **k), lambda **k: T.RandomRotation(90, **k), T.RandomErasing):
        for layout, batch in (("CHW", same_image), ("HW", same_image[:, 0])):
            y = make(layout=layout)(batch, generator())
            assert len({image.tobytes() for image in y}) > 12
    flipped = T.RandomHorizontalFlip(0.25)(np.repeat(RGB[:1], 4000, axis=0), generator())
    assert abs(np.mean([not np.array_equal(f, RGB[0]) for f in flipped]) - 0.25) < 0.03


def test_three_axes_need_a_layout():
    for transform in (T.RandomCrop(3), T.RandomHorizontalFlip(), T.RandomRotation(3), T.RandomErasing()):
        with pytest.raises(ShapeError, match=r"uint8\[3,|may be a batch of images \[H, W\] or one image \[C, H, W\]"):
            transform(RGB[0], generator())
    with pytest.raises(ShapeError, match="needs at least 3 axes"):
        T.RandomHorizontalFlip(layout="CHW")(np.zeros((4, 4)), generator())
    with pytest.raises(ValueError, match="layout must be one of"):
        T.RandomHorizontalFlip(layout="NCHW")


# ---- crop, flip, rotation, erasing


@given(
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(0, 2),
    st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap"]),
)
def test_crops_are_windows_of_the_padded_image(height, width, padding, mode):
    x = np.arange(1, 36, dtype=np.int32).reshape(1, 5, 7)
    height = min(height, 5 + 2 * padding)
    crop = T.RandomCrop((height, width), padding=padding, padding_mode=mode, fill=0, layout="CHW")
    y = crop(x, generator(height * 100 + width))
    padded = np.pad(x[0], padding, mode=mode)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width)).reshape(-1, height, width)
    assert y.shape == (1, height, width)
    assert any(np.array_equal(w, y[0]) for w in windows)


def test_all_crops_occur_equally_often():
    x = np.broadcast_to(np.arange(9).reshape(3, 3), (9000, 3, 3))
    corners = T.RandomCrop(1, layout="HW")(x, generator()).ravel()
    np.testing.assert_allclose(np.bincount(corners) / 9000, 1 / 9, atol=0.015)


def test_crops_that_do_not_fit_and_fills_that_a_dtype_cannot_hold_are_refused():
    with pytest.raises(ShapeError, match="9 x 9 does not fit into 8 x 6"):
        T.RandomCrop(9)(RGB, generator())
    with pytest.raises(ValueError, match="uint8 cannot be filled with 300"):
        T.RandomCrop(4, padding=1, fill=300)(RGB, generator())
    with pytest.raises(ValueError, match=r"uint8 cannot be filled with 0.5"):
        T.RandomRotation(4, fill=0.5)(RGB, generator())
    for wrong in (0, -1, (2, 0), (1, 2, 3)):
        with pytest.raises(ValueError, match="size must be one or two integers"):
            T.RandomCrop(wrong)
    with pytest.raises(ValueError, match="padding_mode must be one of"):
        T.RandomCrop(3, padding_mode="mirror")


def test_flips():
    always = T.RandomHorizontalFlip(1.0)
    np.testing.assert_array_equal(always(RGB, generator()), RGB[..., ::-1])
    np.testing.assert_array_equal(T.RandomVerticalFlip(1.0)(RGB, generator()), RGB[:, :, ::-1])
    np.testing.assert_array_equal(T.RandomHorizontalFlip(0.0)(RGB, generator()), RGB)
    with pytest.raises(ValueError, match=r"p must lie between 0 and 1, got 1.5"):
        T.RandomVerticalFlip(1.5)


def test_rotation_by_right_angles_is_exact_and_counter_clockwise():
    x = RGB[:, :, :6, :6]
    for quarter in range(-4, 5):
        y = T.RandomRotation((90 * quarter, 90 * quarter))(x, generator())
        np.testing.assert_array_equal(y, np.rot90(x, quarter, axes=(2, 3)))
    np.testing.assert_array_equal(T.RandomRotation(0)(RGB, generator()), RGB)


@pytest.mark.parametrize("shape", [(8, 6), (5, 5), (1, 7), (1, 1)])
@pytest.mark.parametrize("degrees", [-170.0, -33.0, 10.0, 45.0, 123.4])
def test_rotation_is_bilinear_interpolation_about_the_centre(shape, degrees):
    ndimage = pytest.importorskip("scipy.ndimage")
    image = RNG.random((1, 1, *shape))
    angle = np.radians(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = (np.array(shape) - 1) / 2
    expected = ndimage.affine_transform(
        image[0, 0], matrix, centre - matrix @ centre, order=1, mode="grid-constant", cval=0.25
    )
    np.testing.assert_allclose(_rotate(image, np.array([angle]), 0.25)[0, 0], expected, atol=1e-9)


def test_erasing_fills_one_rectangle_of_the_right_size():
    x = np.ones((2000, 3, 20, 30), np.float32)
    y = T.RandomErasing(0.7, scale=(0.1, 0.2), ratio=(0.5, 2), value=-1)(x, generator())
    erased = y[:, 0] == -1
    assert np.array_equal(erased, y[:, 2] == -1) and set(np.unique(y)) == {-1, 1}
    hit = erased.any((1, 2))
    assert abs(hit.mean() - 0.7) < 0.04
    for mask in erased[hit][:200]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == len(rows) * len(columns) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert 0.08 < mask.mean() < 0.22 and 0.4 < len(rows) / len(columns) < 2.4
    for wrong in ({"scale": (0.5, 0.1)}, {"ratio": (0, 1)}, {"p": 2}, {"value": np.inf}):
        with pytest.raises(ValueError, match="RandomErasing"):
            T.RandomErasing(**wrong)


# ---- values


def test_to_float():
    assert T.ToFloat()(np.array([0, 255], np.uint8)).tolist() == [0, 1]
    assert T.ToFloat("float64")(np.array([0, 65535], np.uint16)).tolist() == [0, 1]
    assert T.ToFloat(scale=False)(np.array([0, 255], np.uint8)).tolist() == [0, 255]
    assert T.ToFloat("float16")(np.array([1.5, 2])).dtype == np.float16
    assert T.ToFloat()(np.array([True, False])).tolist() == [1, 0]
    assert T.ToFloat()(np.int64(2**63 - 1)) == 1
    with pytest.raises(DTypeError, match="must be floating point, got int32"):
        T.ToFloat("int32")


def test_one_hot():
    y = T.OneHot(4)(np.array([[0, 3], [1, 1]]))
    np.testing.assert_array_equal(y, np.eye(4)[[[0, 3], [1, 1]]])
    assert y.dtype == np.float32 and T.OneHot(2, "int8")(1).tolist() == [0, 1]
    assert T.OneHot(3)(np.zeros(0, np.int32)).shape == (0, 3)
    for wrong in (4, -1):
        with pytest.raises(IndexError, match=f"class {wrong} is out of range for num_classes=4"):
            T.OneHot(4)(np.array([0, wrong]))
    with pytest.raises(DTypeError, match="must be integers, got float64"):
        T.OneHot(4)(np.array([1.0]))
    with pytest.raises(ValueError, match="num_classes"):
        T.OneHot(0)


def test_clip():
    x = np.array([-np.inf, -2, 0.5, np.nan, 7, np.inf], np.float32)
    np.testing.assert_array_equal(T.Clip(-1, 1)(x), np.array([-1, -1, 0.5, np.nan, 1, 1], np.float32))
    np.testing.assert_array_equal(T.Clip(low=0)(x)[[0, 5]], [0, np.inf])
    np.testing.assert_array_equal(T.Clip(-1e300, 1e300)(x), x)
    integers = np.array([0, 100, 255], np.uint8)
    assert T.Clip(-5, 200)(integers).tolist() == [0, 100, 200] and T.Clip(-5, 200)(integers).dtype == np.uint8
    assert T.Clip(300, 400)(integers).tolist() == [255] * 3
    assert T.Clip(-np.inf, np.inf)(integers).tolist() == [0, 100, 255]
    assert T.Clip(-1, 1)(x.astype(ml_dtypes.bfloat16)).dtype == ml_dtypes.bfloat16
    with pytest.raises(ValueError, match=r"whole limits, got 0.5"):
        T.Clip(0.5, 3)(integers)
    with pytest.raises(ValueError, match="low must not be above high"):
        T.Clip(2, 1)


def test_log():
    np.testing.assert_allclose(T.Log(1e-8)(np.array([0.0, 1.0, 1e300])), np.log([1e-8, 1 + 1e-8, 1e300]))
    assert T.Log()(np.array([0, 1], np.uint8)).dtype == np.float32
    half = T.Log()(np.array([0.0], np.float16))
    assert half.dtype == np.float16 and abs(float(half[0]) - np.log(1e-8)) < 0.01  # eps is below float16's range
    assert T.Log(0)(np.float32(0)) == -np.inf
    with pytest.raises(ValueError, match="smallest value is -3"):
        T.Log()(np.array([1.0, -3.0]))


def test_flatten_follows_indices_and_not_memory():
    x = np.arange(24).reshape(2, 3, 4)
    for strided in (x, np.asfortranarray(x), np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0)):
        np.testing.assert_array_equal(T.Flatten()(strided), x.reshape(2, 12))
        np.testing.assert_array_equal(T.Flatten(0)(strided), np.arange(24))
    assert T.Flatten()(np.zeros((0, 3, 4))).shape == (0, 12) and T.Flatten(0)(np.float32(1)).shape == (1,)
    with pytest.raises(ShapeError, match="needs so many axes"):
        T.Flatten(2)(np.zeros(3))


def test_noise_has_the_stated_moments():
    x = np.full((200, 200), 5.0, np.float32)
    y = T.GaussianNoise(2.0, mean=1.0)(x, generator())
    assert y.dtype == np.float32 and np.isfinite(y).all()
    assert abs(y.mean() - 6) < 0.05 and abs(y.std() - 2) < 0.05
    assert T.GaussianNoise()(x.astype(ml_dtypes.bfloat16), generator()).dtype == ml_dtypes.bfloat16
    with pytest.raises(DTypeError, match="apply ToFloat first"):
        T.GaussianNoise()(np.zeros(3, np.uint8), generator())
    with pytest.raises(ValueError, match="std must be finite"):
        T.GaussianNoise(-1)


# ---- statistics


def test_normalize_uses_each_channel_s_own_statistics():
    x = RNG.random((4, 3, 5, 6), np.float32)
    y = T.Normalize.imagenet()(x)
    for c, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        np.testing.assert_allclose(y[:, c], (x[:, c] - mean) / std, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(T.Normalize.imagenet().inverse(y), x, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(T.Normalize.imagenet()(x[0]), y[0])
    last = T.Normalize.imagenet(channel_axis=-1)(np.moveaxis(x, 1, -1))
    np.testing.assert_array_equal(np.moveaxis(last, -1, 1), y)
    one = T.Normalize(0.5, (1, 2, 4))(x)
    np.testing.assert_allclose(one[:, 2], (x[:, 2] - 0.5) / 4, rtol=1e-6)
    assert T.Normalize(1, 2)(np.array([3, 5], np.uint8)).tolist() == [1, 2]
    assert T.Normalize(1, 2)(np.ones(3, np.float16)).dtype == np.float16


def test_normalize_fits_and_refuses():
    x = (RNG.random((50, 3, 4, 5)) * [[[[1]], [[10]], [[100]]]]).astype(np.float32)
    fitted = T.Normalize.fit(x)
    np.testing.assert_allclose(fitted.mean, x.mean((0, 2, 3), dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(fitted.std, x.std((0, 2, 3), dtype=np.float64), rtol=1e-12)
    y = fitted(x).astype(np.float64)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 2, 3)), 1, atol=1e-5)
    grey = x[:, 0]
    assert T.Normalize.fit(grey, channel_axis=None).mean == pytest.approx(grey.mean(dtype=np.float64))
    with pytest.raises(ShapeError, match="images without channels pass channel_axis=None"):
        T.Normalize.fit(grey)
    with pytest.raises(ShapeError, match=r"3 channels.*axis -3 must have that length; got shape \(5, 1, 4, 4\)"):
        T.Normalize.imagenet()(np.zeros((5, 1, 4, 4)))
    with pytest.raises(ShapeError, match="must have that length"):
        T.Normalize.imagenet()(np.zeros((4, 4)))
    for wrong in ((0, 0), (0, -1), (np.nan, 1), (0, (1, 0))):
        with pytest.raises(ValueError, match="Normalize: "):
            T.Normalize(*wrong)
    with pytest.raises(ShapeError, match="one length"):
        T.Normalize((1, 2), (1, 2, 3))


@pytest.mark.parametrize("axis", [0, (0, 2), (0, 1), None])
def test_scalers_fit_apply_and_invert(axis):
    x = RNG.normal(3, 5, (40, 3, 4))
    standard, span = T.StandardScaler.fit(x, axis), T.MinMaxScaler.fit(x, axis, low=-1, high=3)
    axes = tuple(range(3)) if axis is None else axis
    np.testing.assert_allclose(standard(x), (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True), rtol=1e-9)
    low, high = x.min(axes, keepdims=True), x.max(axes, keepdims=True)
    np.testing.assert_allclose(span(x), (x - low) / (high - low) * 4 - 1, rtol=1e-9, atol=1e-12)
    for scaler in (standard, span):
        np.testing.assert_allclose(scaler.inverse(scaler(x)), x, rtol=1e-9)
        np.testing.assert_array_equal(scaler(x[0]), scaler(x)[0])
        assert scaler(x.astype(np.float32)).dtype == np.float32
        assert scaler(np.ones((3, 4), np.int64)).dtype == np.float32


def test_scalers_apply_the_statistics_of_training_data_to_others():
    train, test = np.array([[0.0], [10.0]]), np.array([[20.0], [-10.0]])
    assert T.MinMaxScaler.fit(train)(test).ravel().tolist() == [2, -1]
    assert T.StandardScaler.fit(train)(test).ravel().tolist() == [3, -3]


def test_scalers_at_extremes():
    constant = np.full((5, 2), 0.1)
    assert np.all(T.StandardScaler.fit(constant)(constant) == 0)
    assert np.all(T.MinMaxScaler.fit(constant, low=2, high=3)(constant) == 2)
    # float32 data with a mean that is large beside their spread
    x = (np.arange(1000) % 7 + 16_000_000).astype(np.float32)[:, None]
    y = T.StandardScaler.fit(x)(x)
    assert abs(y.mean()) < 1e-6 and abs(y.std() - 1) < 1e-6
    huge = np.array([[-3e38], [3e38]], np.float32)
    assert T.MinMaxScaler.fit(huge)(huge).ravel().tolist() == [0, 1]
    assert np.allclose(T.StandardScaler.fit(huge)(huge).ravel(), [-1, 1])
    tiny = np.array([[1e-300], [3e-300]])
    assert np.allclose(T.MinMaxScaler.fit(tiny)(tiny).ravel(), [0, 1])
    for bad in (np.zeros((0, 3)), np.array([[np.nan]]), np.array([[np.inf], [0]]), np.array([[-1.7e308], [1.7e308]])):
        for scaler in (T.StandardScaler, T.MinMaxScaler):
            with pytest.raises(ValueError, match=r"Scaler"):
                scaler.fit(bad)


def test_scalers_refuse_other_shapes_and_axes():
    scaler = T.StandardScaler.fit(RNG.random((9, 3)))
    for shape in ((4, 1), (4, 2), (4,), ()):
        with pytest.raises(ShapeError, match=r"fitted to items of shape \(3,\)"):
            scaler(np.zeros(shape))
    with pytest.raises(ShapeError, match="axis must contain 0"):
        T.StandardScaler.fit(RNG.random((9, 3)), axis=1)
    with pytest.raises(ValueError, match="low must be below high"):
        T.MinMaxScaler.fit(RNG.random((9, 3)), low=1, high=1)


def test_statistics_are_taken_in_pieces_that_change_nothing(monkeypatch):
    x = RNG.integers(0, 255, (100, 3, 4, 4), np.uint8)
    whole = T.Normalize.fit(x)
    monkeypatch.setattr("nn_fn.data.transforms.scalers.CHUNK", 7 * 48)
    np.testing.assert_allclose(T.Normalize.fit(x).mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(T.Normalize.fit(x).std, whole.std, rtol=1e-13)


# ---- combinations


class Pair(NamedTuple):
    image: object
    label: object


def test_compose_applies_in_order_and_shares_one_generator():
    both = T.Compose([T.ToFloat(), T.Normalize(0.5, 0.5), lambda x: x + 1])
    assert both(np.array([0, 255], np.uint8)).tolist() == [0, 2] and not both.random
    noisy = T.Compose([T.GaussianNoise(), T.Compose([T.GaussianNoise()])])
    x = np.zeros(4)
    rng = generator(3)
    np.testing.assert_array_equal(noisy(x, generator(3)), T.GaussianNoise()(T.GaussianNoise()(x, rng), rng))
    assert noisy.random and T.Compose([])(x) is x
    with pytest.raises(TypeError, match="is random; call the transform with"):
        noisy(x)
    with pytest.raises(TypeError, match="must be callable, got int"):
        T.Compose([3])


def test_apply_to_changes_one_part():
    add = lambda x: x + 1
    assert T.ApplyTo(0, add)((1, 2)) == (2, 2)
    assert T.ApplyTo(-1, add)([1, 2]) == [1, 3]
    assert T.ApplyTo("y", add)({"x": 1, "y": 2}) == {"x": 1, "y": 3}
    assert T.ApplyTo("label", add)(Pair(1, 2)) == Pair(1, 3) == T.ApplyTo(1, add)(Pair(1, 2))
    with pytest.raises(KeyError):
        T.ApplyTo("z", add)({"x": 1})
    with pytest.raises(IndexError):
        T.ApplyTo(2, add)((1, 2))
    with pytest.raises(TypeError, match="an item of type ndarray has no part 0"):
        T.ApplyTo(0, add)(np.zeros(3))
