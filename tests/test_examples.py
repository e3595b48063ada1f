"""The examples run, and find what they claim to find. Sizes are reduced where the result stays meaningful."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from asgfn import random
from examples import (
    custom_rules,
    digits,
    gaussian_process,
    linear_regression,
    neural_ode,
    newton,
    scan_rnn,
    xor,
)

MODULES = (custom_rules, digits, gaussian_process, linear_regression, neural_ode, newton, scan_rnn, xor)


def assert_pictures(folder: Path, *names: str) -> None:
    """The pictures are there, are PNG files, and are of a sensible size."""
    for name in names:
        content = (folder / name).read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", content[16:24])
        assert 400 < width < 10_000 and 200 < height < 10_000


def test_digits(tmp_path, capsys):
    accuracy = digits.main(["--epochs", "4", "--out", str(tmp_path)])
    assert accuracy > 0.9
    assert f"test accuracy: {accuracy:.4f}" in capsys.readouterr().out
    assert_pictures(tmp_path, "loss.png", "model.png")
    assert (tmp_path / "checkpoint.safetensors").stat().st_size > 100_000


def test_linear_regression(tmp_path):
    result = linear_regression.main(["--resamples", "300", "--out", str(tmp_path)])
    x, y = linear_regression.DISTANCE.astype(np.float64), linear_regression.VELOCITY.astype(np.float64)
    np.testing.assert_allclose(result["slope"], np.polyfit(x, y, 1)[0], rtol=1e-5)  # 454.16 km/s/Mpc
    assert result["difference"] < 1e-3  # of 454: the two solutions agree
    assert 60 < result["error"] < 100  # the textbook formula gives 75
    assert_pictures(tmp_path, "fit.png")


def test_xor(tmp_path):
    result = xor.main(["--steps", "150", "--out", str(tmp_path)])
    assert result["accuracy"] == 1.0 and result["loss"] < 0.01
    np.testing.assert_allclose(result["linear loss"], np.log(2), rtol=0.01)  # no straight line does better than chance
    assert_pictures(tmp_path, "xor.png")


def test_newton(tmp_path):
    result = newton.main(["--descent-steps", "300", "--out", str(tmp_path)])
    norms = result["norms"]
    assert len(norms) <= 12 and norms[-1] < 1e-12
    small = [k for k, norm in enumerate(norms) if norm < 1e-2]
    for before, after in pairwise(small):  # quadratic: the error is squared, down to rounding
        assert norms[after] < 100 * norms[before] ** 2 + 1e-13
    assert result["descent"][-1] > 1e-3 and result["excess"] > 1e-4
    assert all(b < a for a, b in pairwise(result["descent"]))
    assert result["accuracy"] > 0.97
    assert_pictures(tmp_path, "convergence.png")


def test_neural_ode(tmp_path):
    result = neural_ode.main(["--steps", "200", "--out", str(tmp_path)])
    assert result["floor"] < 0.001 and result["loss"] < 4 * result["floor"]
    assert result["within"] < 0.08 and result["beyond"] < 0.1
    assert_pictures(tmp_path, "pendulum.png")


def test_neural_ode_solver_is_of_fourth_order():
    """One step on y' = -rate y is exp's series to the fourth order; halving the step leaves 1/32 of the error."""

    def error(rate: float) -> float:
        y = neural_ode.solve(lambda y: -rate * y, np.ones(2, np.float32), 1)
        return abs(float(y[1, 0]) - np.exp(-rate * neural_ode.INTERVAL))

    assert 20 < error(4.0) / error(2.0) < 40


def test_gaussian_process(tmp_path):
    result = gaussian_process.main(["--steps", "100", "--out", str(tmp_path)])
    assert abs(result["noise"] - gaussian_process.NOISE) < 0.05
    assert result["error"] < gaussian_process.NOISE
    assert result["coverage"] > 0.85
    assert_pictures(tmp_path, "process.png")


def test_gaussian_process_likelihood_is_that_of_a_multivariate_normal():
    params = {"log_scale": np.float32(0.2), "log_amplitude": np.float32(0.3), "log_noise": np.float32(-1.0)}
    x = np.linspace(0, 4, 9, dtype=np.float32)
    y = np.sin(x)
    distance = (x[:, None] - x[None, :]).astype(np.float64)
    covariance = np.exp(0.6) * np.exp(-0.5 * (distance / np.exp(0.2)) ** 2) + (np.exp(-2.0) + 1e-5) * np.eye(9)
    expected = 0.5 * (y @ np.linalg.solve(covariance, y) + np.linalg.slogdet(covariance)[1] + 9 * np.log(2 * np.pi))
    np.testing.assert_allclose(gaussian_process.negative_log_likelihood(params, x, y), expected, rtol=1e-4)


def test_custom_rules(tmp_path):
    result = custom_rules.main(["--size", "32", "--out", str(tmp_path)])
    assert result["softplus error"] < 1e-6 and result["softplus second error"] < 1e-6
    assert result["naive nans"] == 1
    assert result["plain gradient"] > 1e10 and result["clipped gradient"] <= 1.0 and result["same values"]
    assert result["kepler error"] < 1e-12
    assert result["solve difference"] < 1e-5
    assert_pictures(tmp_path, "kepler.png")


def test_scan_rnn(tmp_path):
    result = scan_rnn.main(["--steps", "250", "--length", "12", "--out", str(tmp_path)])
    assert result["error"] < scan_rnn.GUESS / 40 and result["close"] > 0.5
    assert_pictures(tmp_path, "adding.png")


def test_adding_problem_is_what_it_says():
    sequences, sums = (np.asarray(a) for a in scan_rnn.adding_problem(random.key(0), 50, 9))
    numbers, marks = sequences[..., 0], sequences[..., 1]
    assert set(np.unique(marks)) == {0.0, 1.0}
    assert (marks[:, :4].sum(axis=1) == 1).all() and (marks[:, 4:].sum(axis=1) == 1).all()
    np.testing.assert_allclose(sums, (numbers * marks).sum(axis=1), rtol=1e-6)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_examples_explain_themselves(module, capsys):
    assert f"python -m {module.__name__}" in module.__doc__
    with pytest.raises(SystemExit) as caught:
        module.main(["--help"])
    assert caught.value.code == 0 and "--out" in capsys.readouterr().out


def test_every_example_is_tested():
    folder = Path(digits.__file__).parent
    names = {path.stem for path in folder.glob("*.py")} - {"__init__", "pictures"}
    assert names == {module.__name__.removeprefix("examples.") for module in MODULES}
