"""Gaussian process regression: a curve with honest error bars, whose settings the data choose.

    python -m examples.gaussian_process

The covariance of two points is a plain function of two numbers; `vmap` twice makes it a matrix. The probability of the
data under the process (its marginal likelihood) has gradients through the Cholesky factor, so that length scale,
amplitude and noise are fitted rather than guessed. (C. Rasmussen, C. Williams, Gaussian Processes for Machine Learning,
2006, algorithm 2.1.)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import asgfn
import asgfn.numpy as jnp
import nn_fn
from asgfn import plot, random
from asgfn.scipy.linalg import solve_triangular
from examples import pictures

NOISE = 0.15


def truth(x: Any) -> Any:
    """The function behind the observations."""
    return jnp.sin(2 * x) + 0.4 * x


def covariance(params: dict, a: Any, b: Any) -> Any:
    """How similar the function is at two points: amplitude² exp(-(a - b)² / (2 scale²))."""
    distance = (a - b) / jnp.exp(params["log_scale"])
    return jnp.exp(2 * params["log_amplitude"] - 0.5 * distance**2)


def matrix(function: Callable, xs: Any, ys: Any) -> Any:
    """function(x, y) for every pair, [len(xs), len(ys)]."""
    return asgfn.vmap(lambda x: asgfn.vmap(lambda y: function(x, y))(ys))(xs)


def factor(params: dict, x: Any) -> Any:
    """The Cholesky factor of the covariance of noisy observations at x."""
    noise = jnp.exp(2 * params["log_noise"]) + 1e-5  # the small term keeps the matrix positive definite in float32
    return jnp.linalg.cholesky(matrix(partial(covariance, params), x, x) + noise * jnp.eye(len(x)))


def negative_log_likelihood(params: dict, x: Any, y: Any) -> Any:
    """-log p(y | x), in nats."""
    lower = factor(params, x)
    white = solve_triangular(lower, y, lower=True)
    return 0.5 * white @ white + jnp.sum(jnp.log(jnp.diag(lower))) + 0.5 * len(x) * np.log(2 * np.pi)


@asgfn.jit
def predict(params: dict, x: Any, y: Any, new: Any) -> tuple[Any, Any]:
    """Mean and standard deviation of the function (without noise) at new points."""
    lower = factor(params, x)
    across = solve_triangular(lower, matrix(partial(covariance, params), x, new), lower=True)
    variance = jnp.exp(2 * params["log_amplitude"]) - jnp.sum(across**2, axis=0)
    return across.T @ solve_triangular(lower, y, lower=True), jnp.sqrt(jnp.maximum(variance, 0))


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Runs the example; returns the settings found, the error, and how much of the truth the 95% band covers."""
    parser = argparse.ArgumentParser(description="Gaussian process regression with fitted hyperparameters.")
    parser.add_argument("--points", type=int, default=40)
    parser.add_argument("--steps", type=int, default=150, help="steps of Adam on the settings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/gaussian_process"), help="folder for the picture")
    options = parser.parse_args(argv)

    place_key, noise_key = random.split(random.key(options.seed))
    x = random.uniform(place_key, (options.points,), minval=0.0, maxval=7.0)
    x = jnp.where(x > 3.5, x + 1.5, x)  # nobody looked between 3.5 and 5
    y = truth(x) + NOISE * random.normal(noise_key, x.shape)

    params = {name: jnp.zeros(()) for name in ("log_scale", "log_amplitude", "log_noise")}
    optimiser = nn_fn.adam(5e-2)
    state = optimiser.init(params)

    @asgfn.jit
    def step(params, state):
        value, grads = asgfn.value_and_grad(negative_log_likelihood)(params, x, y)
        updates, state = optimiser.update(grads, state, params)
        return nn_fn.apply_updates(params, updates), state, value

    history = []
    for _ in range(options.steps):
        params, state, value = step(params, state)
        history.append(float(value))
    scale, amplitude, noise = (float(jnp.exp(params[n])) for n in ("log_scale", "log_amplitude", "log_noise"))
    print(f"-log likelihood: {history[0]:.1f} nats at the start, {history[-1]:.1f} after {options.steps} steps")
    print(f"length scale {scale:.2f}, amplitude {amplitude:.2f}, noise {noise:.3f} (the truth: {NOISE})")

    new = np.linspace(-1.0, 9.5, 300, dtype=np.float32)
    mean, deviation = (np.asarray(a) for a in predict(params, x, y, new))
    real = np.asarray(truth(new))
    inside = np.abs(mean - real) <= 1.96 * deviation
    observed = (new > 0) & (new < 8.5) & ((new < 3.5) | (new > 5))
    error = float(np.sqrt(np.mean((mean - real)[observed] ** 2)))
    print(f"error where there are data: {error:.3f}; the 95% band covers {inside.mean():.0%} of the curve")
    gap = (new > 3.5) & (new < 5)
    at_data, in_gap = deviation[observed].mean(), deviation[gap].max()
    print(f"standard deviation {at_data:.3f} at the data, up to {in_gap:.3f} in the gap")

    figure, (left, right) = pictures.panels(2)
    plot.losses(history, ax=left, ylabel="-log likelihood / nats", title="The settings are fitted")
    low, high = mean - 1.96 * deviation, mean + 1.96 * deviation
    right.fill_between(new, low, high, color=pictures.BLUE, alpha=0.18, linewidth=0, label="95% band")
    right.plot(new, mean, color=pictures.BLUE, linewidth=2, label="prediction")
    right.plot(new, real, color=pictures.INK, linewidth=1, linestyle="--", label="truth")
    right.plot(x, y, "o", color=pictures.RED, markersize=4.5, markeredgecolor="white", label="observations")
    pictures.style(right, "The curve, and how certain it is", "x", "y")
    pictures.save(figure, options.out, "process.png")
    return {"noise": noise, "scale": scale, "error": error, "coverage": float(inside.mean())}


if __name__ == "__main__":
    main()
