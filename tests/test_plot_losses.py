"""Loss curves: what `asgfn.plot.losses` draws, and what it refuses."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from asgfn.plot import losses
from asgfn.plot.losses import smoothed


def lines(figure: Figure, label: str | None = None) -> list:
    """The curves of a figure that have more than one point, or the one with this label."""
    found = figure.axes[0].get_lines()
    if label is not None:
        return [line for line in found if line.get_label() == label]
    return [line for line in found if len(line.get_xdata()) > 1]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def markers(figure: Figure, marker: str) -> list[float]:
    """The steps at which a marker stands."""
    found = [line for line in figure.axes[0].get_lines() if line.get_marker() == marker]
    return [float(step) for line in found for step in line.get_xdata()]


def test_numbers_count_their_steps_from_zero():
    (line,) = lines(losses([3.0, 2, np.float32(1.5)]))
    np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2])
    np.testing.assert_array_equal(line.get_ydata(), [3.0, 2.0, 1.5])


def test_a_pair_gives_the_steps():
    (line,) = lines(losses(([0, 10, 20], np.array([3.0, 2.0, 1.0]))))
    np.testing.assert_array_equal(line.get_xdata(), [0, 10, 20])


def test_a_tuple_of_two_numbers_is_no_pair():
    (line,) = lines(losses((0.5, 0.25)))
    np.testing.assert_array_equal(line.get_ydata(), [0.5, 0.25])


def test_a_dict_gives_named_curves_and_a_legend():
    figure = losses({"train": [3, 2, 1], "test": ([0, 2], [3.5, 2.5])})
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["train", "test"]
    np.testing.assert_array_equal(lines(figure, "test")[0].get_xdata(), [0, 2])


def test_one_curve_without_a_name_has_no_legend():
    assert losses([2, 1]).axes[0].get_legend() is None


def test_labels_and_title():
    ax = losses([2, 1], xlabel="epoch", ylabel="error in $", title="digits").axes[0]
    assert ax.get_xlabel() == "epoch"
    assert ax.get_ylabel() == "error in $"
    assert ax.get_title(loc="left") == "digits"


def test_more_curves_than_colours_differ_in_their_dashes():
    figure = losses({str(number): [2, 1] for number in range(20)})
    looks = {(line.get_color(), line.get_linestyle()) for line in lines(figure)}
    assert len(looks) == 20


def test_smoothing_starts_without_bias_and_keeps_the_raw_curve():
    figure = losses({"loss": [4.0, 2.0, 1.0]}, smoothing=0.5)
    main = lines(figure, "loss")[0]
    np.testing.assert_allclose(main.get_ydata(), [4.0, (0.25 * 4 + 0.5 * 2) / 0.75, (0.5 + 0.5 + 0.5) / 0.875])
    assert len(lines(figure)) == 2
    assert min(line.get_alpha() or 1 for line in lines(figure)) < 0.5


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 0.99))
def test_a_smoothed_value_lies_between_the_values_so_far(values, smoothing):
    result = smoothed(np.array(values), smoothing)
    for index, average in enumerate(result):
        so_far = values[: index + 1]
        margin = 1e-6 * (1 + max(map(abs, so_far)))
        assert min(so_far) - margin <= average <= max(so_far) + margin


def test_smoothing_skips_what_is_not_finite():
    result = smoothed(np.array([1.0, np.nan, 1.0, np.inf]), 0.9)
    np.testing.assert_allclose(result, [1.0, np.nan, 1.0, np.nan])


def test_gaps_are_marked():
    figure = losses([3.0, math.nan, 2.0, math.inf, -math.inf, 1.0, 0.5])
    assert markers(figure, "x") == [1.0, 3.0]
    assert markers(figure, "v") == [4.0]
    np.testing.assert_array_equal(
        np.isnan(lines(figure)[0].get_ydata()), [False, True, False, True, True, False, False]
    )


def test_a_value_between_gaps_is_a_dot():
    assert markers(losses([math.nan, 2.0, math.nan, 1.0, 0.5]), ".") == [1.0]
    assert markers(losses([2.0]), ".") == [0.0]


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show():
    figure = losses([10.0, 0.0, 1.0, -1.0, 0.1], log=True, best="min")
    assert figure.axes[0].get_yscale() == "log"
    assert markers(figure, "v") == [1.0, 3.0]
    assert texts(figure) == ["0.1 at 4"]


def test_a_logarithmic_axis_without_positive_values_becomes_linear_and_says_so():
    figure = losses([0.0, -1.0], log=True)
    assert figure.axes[0].get_yscale() == "linear"
    assert texts(figure) == ["no positive value: linear axis"]


@pytest.mark.parametrize(("best", "text"), [("min", "0.5 at 20"), ("max", "3 at 0")])
def test_the_best_value_is_marked_with_its_step(best, text):
    figure = losses(([0, 10, 20, 30], [3.0, 2.0, 0.5, math.nan]), best=best)
    assert texts(figure) == [text]


def test_no_best_value_where_nothing_is_finite():
    assert texts(losses([math.nan, math.nan], best="min")) == []


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_file_is_written_whole_and_alone(tmp_path, ending):
    path = tmp_path / f"losses.{ending}"
    path.write_text("old")
    losses([2, 1], path=path)
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


def test_draws_on_given_axes():
    figure = Figure()
    upper, _ = figure.subplots(2)
    assert losses([2, 1], ax=upper) is figure
    assert len(upper.get_lines()) == 1


def test_global_style_and_pyplot_stay_as_they_were(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    losses({"a": [2, 1]}, path=tmp_path / "losses.svg")
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_a_notebook_shows_the_figure():
    assert losses([2, 1])._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize("history", [[], (), {}, np.zeros(0), {"train": []}, ([], [])])
def test_an_empty_history(history):
    with pytest.raises(ValueError, match="empty"):
        losses(history)


def test_steps_and_values_of_different_length():
    with pytest.raises(ValueError, match=r"curve 'test' has 3 steps but 2 values"):
        losses({"test": ([0, 1, 2], [1.0, 2.0])})


def test_steps_that_are_not_finite():
    with pytest.raises(ValueError, match="steps of the history must be finite"):
        losses(([0, math.nan], [1.0, 2.0]))


@pytest.mark.parametrize("history", [["low", "lower"], [1j], [object()], 3.0])
def test_what_is_no_sequence_of_real_numbers(history):
    with pytest.raises((TypeError, ValueError), match="numbers"):
        losses(history)


def test_a_matrix_is_no_history():
    with pytest.raises(ValueError, match=r"got an array of shape \(2, 3\)"):
        losses(np.zeros((2, 3)))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_smoothing_out_of_range(smoothing):
    with pytest.raises(ValueError, match="smoothing must be at least 0 and below 1"):
        losses([1, 2], smoothing=smoothing)


def test_unknown_best():
    with pytest.raises(ValueError, match="best must be 'min', 'max' or None, got 'lowest'"):
        losses([1, 2], best="lowest")


@pytest.mark.parametrize("name", ["losses", "losses.jpg", "losses.txt"])
def test_unknown_format(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end with one of \.png, \.svg, \.pdf"):
        losses([1, 2], path=tmp_path / name)


def test_arrays_of_asgfn():
    jnp = pytest.importorskip("asgfn.numpy")
    scalars = [jnp.float32(3.0), 2.0, jnp.array(1.0, jnp.bfloat16)]
    (line,) = lines(losses(scalars))
    np.testing.assert_array_equal(line.get_ydata(), [3.0, 2.0, 1.0])
    (line,) = lines(losses((jnp.arange(3) * 10, jnp.ones(3, jnp.bfloat16))))
    np.testing.assert_array_equal(line.get_xdata(), [0, 10, 20])
    assert lines(losses({"loss": jnp.arange(4.0)}, smoothing=0.5))
