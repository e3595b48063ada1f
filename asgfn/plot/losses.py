"""`asgfn.plot.losses`: how a training run went."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from asgfn.plot import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart; then the same ones dashed, and so on.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
LINE_STYLES = ("-", "--", ":", "-.")
SIZE = (6.4, 3.8)


class Curve(NamedTuple):
    """One line of the picture: float64 steps and values of equal length."""

    name: str
    steps: np.ndarray
    values: np.ndarray


def losses(
    history: Sequence[Any] | Mapping[str, Any],
    *,
    ax: Axes | None = None,
    path: str | os.PathLike[str] | None = None,
    smoothing: float = 0.0,
    log: bool = False,
    best: Literal["min", "max"] | None = None,
    xlabel: str = "step",
    ylabel: str = "loss",
    title: str | None = None,
) -> Figure:
    """Draw one or several loss curves.

    ```python
    asgfn.plot.losses({"train": train, "test": (steps, test)}, smoothing=0.9, best="min", path="losses.png")
    ```

    Arguments:
        history: numbers (any mix of Python, NumPy and asgfn scalars, or a rank-1 array), a pair `(steps, values)`, or
            a dict from names to either. Without steps they count from 0. Only a tuple of two sequences is a pair.
        ax: matplotlib axes to draw on; without them a new figure is made.
        path: also save the figure there, as PNG, SVG or PDF by the ending of the name.
        smoothing: the weight of the past in an exponential moving average, at least 0 and below 1; the raw curve stays
            as a faint line. The average starts unbiased: `m_t / (1 - smoothing**t)`, `m_t` starting from zero (Kingma
            and Ba, "Adam", 2015, section 3), and it skips values that are not finite.
        log: logarithmic vertical axis. Values that it cannot show are gaps.
        best: mark the smallest ("min") or largest ("max") value of each curve with its step.
        xlabel, ylabel, title: the texts around the picture.

    Gaps are marked: a cross at the top where a value is NaN or infinite, a triangle at the bottom where it is -inf, or
    not positive on a logarithmic axis.

    Returns:
        The matplotlib figure. A notebook shows it; pyplot does not know it.

    Raises:
        ValueError: when there is nothing to draw, steps and values differ in length, or an option is out of range.
        TypeError: for values that are no real numbers.
    """
    from asgfn.plot.figures import check_path, figure_of, new_figure, save

    if not 0 <= smoothing < 1:
        raise ValueError(f"losses: smoothing must be at least 0 and below 1, got {smoothing!r}")
    if best not in ("min", "max", None):
        raise ValueError(f"losses: best must be 'min', 'max' or None, got {best!r}")
    if path is not None:
        check_path(path)
    curves = _curves(history)
    if ax is None:
        figure = new_figure(*SIZE)
        ax = figure.add_axes((0.11, 0.135, 0.86, 0.775 if title else 0.83))
    use_log = log and any(np.any(_shown(curve.values, log=True)) for curve in curves)
    if log and not use_log:
        ax.annotate(
            "no positive value: linear axis",
            (0.99, 0.01),
            xycoords="axes fraction",
            ha="right",
            va="bottom",
            fontsize=8,
            color=palette.FAINT_INK,
        )
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        line_style = LINE_STYLES[number // len(COLOURS) % len(LINE_STYLES)]
        _draw_curve(ax, curve, smoothing, use_log, colour, line_style)
    whole_steps = all(np.all(curve.steps == np.round(curve.steps)) for curve in curves)
    _style(ax, use_log=use_log, whole_steps=whole_steps, xlabel=xlabel, ylabel=ylabel, title=title)
    ax.margins(x=0.02, y=0.15 if best else 0.08)  # the mark of the best value needs room
    if best:
        for number, curve in enumerate(curves):
            _mark_best(ax, curve, best, use_log, COLOURS[number % len(COLOURS)])
    if any(curve.name for curve in curves):
        legend = ax.legend(frameon=True, framealpha=0.85, edgecolor="none", fontsize=8, labelcolor=palette.INK)
        legend.get_frame().set_facecolor(palette.PAPER)
    figure = figure_of(ax)
    if path is not None:
        save(figure, path)
    return figure


def smoothed(values: np.ndarray, smoothing: float) -> np.ndarray:
    """The exponential moving average without the bias towards zero; NaN where the value is not finite."""
    averages = np.full(len(values), np.nan)
    average, weight = 0.0, 0.0
    for index, value in enumerate(values.tolist()):
        if np.isfinite(value):
            average = smoothing * average + (1 - smoothing) * value
            weight = smoothing * weight + (1 - smoothing)
            averages[index] = average / weight
    return averages


def _curves(history: Any) -> list[Curve]:
    if isinstance(history, Mapping):
        if not history:
            raise ValueError("losses: the history is empty: there is no curve to draw")
        return [_curve(str(name), values) for name, values in history.items()]
    return [_curve("", history)]


def _curve(name: str, history: Any) -> Curve:
    of_what = f"curve {name!r}" if name else "the history"
    steps, values = None, history
    if isinstance(history, tuple) and len(history) == 2 and all(np.ndim(_plain(part)) > 0 for part in history):
        steps, values = (_numbers(part, of_what) for part in history)
        if len(steps) != len(values):
            raise ValueError(f"losses: {of_what} has {len(steps)} steps but {len(values)} values")
        if not np.all(np.isfinite(steps)):
            raise ValueError(f"losses: the steps of {of_what} must be finite")
    else:
        values = _numbers(history, of_what)
    if not len(values):
        raise ValueError(f"losses: {of_what} is empty: there is nothing to draw")
    return Curve(name, np.arange(len(values), dtype=np.float64) if steps is None else steps, values)


def _plain(values: Any) -> Any:
    """Sequences as lists of what they hold, arrays as NumPy arrays."""
    if hasattr(values, "__array__"):
        return np.asarray(values)
    return values if np.isscalar(values) else [_plain(value) for value in values]


def _numbers(values: Any, of_what: str) -> np.ndarray:
    try:
        array = np.asarray(_plain(values))
    except (TypeError, ValueError):
        raise TypeError(f"losses: {of_what} must be a sequence of numbers, got {type(values).__name__}") from None
    if array.dtype.kind in "cOSUMm":
        raise TypeError(f"losses: {of_what} must hold real numbers, got {array.dtype.name}")
    if array.ndim != 1:
        raise ValueError(f"losses: {of_what} must be a sequence of numbers, got an array of shape {array.shape}")
    return array.astype(np.float64)


def _shown(values: np.ndarray, *, log: bool) -> np.ndarray:
    """Which values the vertical axis can show."""
    return np.isfinite(values) & (values > 0) if log else np.isfinite(values)


def _draw_curve(ax: Axes, curve: Curve, smoothing: float, log: bool, colour: str, line_style: str) -> None:
    shown = _shown(curve.values, log=log)
    raw = np.where(shown, curve.values, np.nan)
    # A single value, or one between two gaps, has no line: give it a dot.
    neighbours = np.concatenate([[False], shown, [False]])
    alone = shown & ~neighbours[:-2] & ~neighbours[2:]
    main = smoothed(curve.values, smoothing) if smoothing else raw
    if log:
        main = np.where(main > 0, main, np.nan)
    if smoothing:
        ax.plot(curve.steps, raw, color=colour, alpha=0.28, linewidth=0.9, solid_capstyle="round")
    ax.plot(
        curve.steps,
        main,
        color=colour,
        linestyle=line_style,
        linewidth=1.7,
        solid_capstyle="round",
        label=curve.name or None,
    )
    if alone.any():
        ax.plot(curve.steps[alone], raw[alone], color=colour, linestyle="none", marker=".", markersize=5)
    low = ~shown & (np.isneginf(curve.values) | (np.isfinite(curve.values)))
    _mark_gaps(ax, curve.steps[~shown & ~low], colour, marker="x", height=0.965)
    _mark_gaps(ax, curve.steps[low], colour, marker="v", height=0.035)


def _mark_gaps(ax: Axes, steps: np.ndarray, colour: str, *, marker: str, height: float) -> None:
    if len(steps):
        ax.plot(
            steps,
            np.full(len(steps), height),
            color=colour,
            linestyle="none",
            marker=marker,
            markersize=5,
            transform=ax.get_xaxis_transform(),
            clip_on=False,
        )


def _mark_best(ax: Axes, curve: Curve, best: str, log: bool, colour: str) -> None:
    shown = np.flatnonzero(_shown(curve.values, log=log))
    if not len(shown):
        return
    values = curve.values[shown]
    index = shown[np.argmin(values) if best == "min" else np.argmax(values)]
    step, value = curve.steps[index], curve.values[index]
    ax.plot([step], [value], color=colour, marker="o", markersize=6, markeredgecolor=palette.PAPER, linestyle="none")
    left, right = ax.get_xlim()
    place = (step - left) / (right - left)
    below = best == "min"  # the side without curve
    ax.annotate(
        f"{value:.4g} at {step:g}",
        (step, value),
        xytext=(0, -6 if below else 6),
        textcoords="offset points",
        ha="left" if place < 0.12 else "right" if place > 0.88 else "center",
        va="top" if below else "bottom",
        fontsize=8,
        color=palette.darker(colour, 0.75),
    )


def _style(ax: Axes, *, use_log: bool, whole_steps: bool, xlabel: str, ylabel: str, title: str | None) -> None:
    from matplotlib.ticker import MaxNLocator

    if use_log:
        ax.set_yscale("log")
    if whole_steps and ax.get_xscale() == "linear":
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))
    ax.set_facecolor(palette.PAPER)
    ax.set_xlabel(xlabel, fontsize=9, color=palette.INK)
    ax.set_ylabel(ylabel, fontsize=9, color=palette.INK)
    if title is not None:
        ax.set_title(title, fontsize=10, fontweight="bold", color=palette.INK, loc="left", parse_math=False)
    ax.tick_params(which="both", labelsize=8, colors=palette.FAINT_INK, length=3)
    ax.grid(visible=True, color="#E4E8ED", linewidth=0.7)
    ax.set_axisbelow(True)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(palette.EDGE)
