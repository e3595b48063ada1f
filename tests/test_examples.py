"""The examples run, and find what they claim to find. Sizes are reduced where the result stays meaningful."""

from __future__ import annotations

import gzip
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from asgfn import random
from examples import (
    autoencoder,
    char_gpt,
    contrastive,
    custom_rules,
    digits,
    fashion_mnist,
    gaussian_process,
    linear_regression,
    neural_ode,
    newton,
    rnn_sine,
    scan_rnn,
    vit_fashion_mnist,
    xor,
)

MODULES = (
    autoencoder, char_gpt, contrastive, custom_rules, digits, fashion_mnist, gaussian_process, linear_regression,
    neural_ode, newton, rnn_sine, scan_rnn, vit_fashion_mnist, xor,
)  # fmt: skip


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


@pytest.fixture(scope="module")
def clothes(tmp_path_factory) -> list[str]:
    """Options for real images: those of Debian's package; where it is not installed, made ones in the official form."""
    if Path("/usr/share/datasets/fashion-mnist").is_dir():
        return []
    return ["--data", str(made_clothes(tmp_path_factory.mktemp("clothes")))]


def made_clothes(folder: Path) -> Path:
    """Ten kinds of bright rectangles, as the four files of Fashion-MNIST; not the official content."""
    draws = np.random.RandomState(0)
    for name, count in (("train", 2000), ("t10k", 500)):
        labels = draws.randint(0, 10, count).astype(np.uint8)
        images = draws.randint(0, 40, (count, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 + 2 * label : 8 + 2 * label, 4 : 8 + 2 * label] = 220
        for kind, magic, array in (("images-idx3", 2051, images), ("labels-idx1", 2049, labels)):
            header = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
            with gzip.open(folder / f"{name}-{kind}-ubyte.gz", "wb") as file:
                file.write(header + array.tobytes())
    return folder


def test_fashion_mnist(tmp_path, clothes):
    options = ["--limit", "1500", "--epochs", "2", "--augment", "--out", str(tmp_path), *clothes]
    first = fashion_mnist.main(options)
    assert first > 0.6
    assert_pictures(tmp_path, "loss.png")
    assert fashion_mnist.main([*options, "--resume"]) == first  # nothing is left to do


def test_fashion_mnist_prepares_batches_in_other_processes(tmp_path, clothes):
    options = ["--limit", "320", "--epochs", "1", "--augment", *clothes]
    alone = fashion_mnist.main([*options, "--out", str(tmp_path / "alone")])
    assert fashion_mnist.main([*options, "--workers", "2", "--out", str(tmp_path / "workers")]) == alone


def test_vit_fashion_mnist(tmp_path, clothes):
    accuracy = vit_fashion_mnist.main(
        ["--limit", "500", "--epochs", "3", "--batch-size", "25", "--out", str(tmp_path), *clothes]
    )
    assert accuracy > 0.35
    assert_pictures(tmp_path, "loss.png")


def test_char_gpt(tmp_path):
    result = char_gpt.main(
        ["--epochs", "1", "--steps-per-epoch", "120", "--features", "32", "--heads", "2", "--blocks", "2", "--context", "32",
         "--length", "40", "--out", str(tmp_path)]
    )  # fmt: skip
    assert result["loss"] < 3.0  # nats a character; guessing among all is 4.4
    assert result["written"].startswith("It was ") and len(result["written"]) == 47


def test_char_gpt_writes_what_the_whole_model_would():
    """The cache changes nothing: drawn at almost no temperature, each character is the likeliest one."""
    model = char_gpt.network(20, 16, 2, 2, 0.0)
    params, _ = model.init(random.key(3))
    prompt = np.array([3, 1, 4, 1, 5])
    tokens = np.asarray(char_gpt.write(model, params, prompt, 6, random.key(0), temperature=1e-6))
    text = prompt
    for token in tokens:
        assert int(np.argmax(model(params, text[None])[0, -1])) == token
        text = np.append(text, token)


def test_autoencoder(tmp_path):
    errors = autoencoder.main(["--epochs", "15", "--out", str(tmp_path)])
    assert errors["autoencoder"] < errors["components"]
    assert_pictures(tmp_path, "digits.png", "loss.png")


def test_rnn_sine(tmp_path):
    errors = rnn_sine.main(["--epochs", "10", "--waves", "256", "--out", str(tmp_path)])
    assert errors["next 10"] < 0.75 * errors["guess"]
    assert_pictures(tmp_path, "waves.png", "loss.png")


def test_contrastive(tmp_path):
    accuracies = contrastive.main(["--epochs", "8", "--out", str(tmp_path)])
    assert accuracies["triplets"] > accuracies["components"] + 0.1
    assert_pictures(tmp_path, "space.png", "loss.png")


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
    result = neural_ode.main(["--steps", "250", "--out", str(tmp_path)])
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
    names = {path.stem for path in folder.glob("*.py")} - {"__init__", "arguments", "pictures"}
    assert names == {module.__name__.removeprefix("examples.") for module in MODULES}
