"""Linear regression on the data that showed that the universe expands, solved in two ways.

    python -m examples.linear_regression

E. Hubble measured the distances of 24 galaxies and how fast they move away from us (A relation between distance and
radial velocity among extra-galactic nebulae, PNAS 15, 1929, table 1). The slope of the line through them is what is now
called the Hubble constant. The program finds that line in closed form and by gradient descent, whose step size comes
from the Hessian, and estimates how certain it is by fitting a thousand resampled data sets at once with `vmap`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, plot, random
from examples import pictures

# millions of parsecs, and kilometres per second
DISTANCE = np.array([
    0.032, 0.034, 0.214, 0.263, 0.275, 0.275, 0.45, 0.5, 0.5, 0.63, 0.8, 0.9,
    0.9, 0.9, 0.9, 1.0, 1.1, 1.1, 1.4, 1.7, 2.0, 2.0, 2.0, 2.0,
], np.float32)  # fmt: skip
VELOCITY = np.array([
    170, 290, -130, -70, -185, -220, 200, 290, 270, 200, 300, -30,
    650, 150, 500, 920, 450, 500, 500, 960, 500, 850, 800, 1090,
], np.float32)  # fmt: skip
GIGAYEARS = 977.8  # of 1 / (km/s / Mpc)


def predict(line: Any, x: Any) -> Any:
    """The velocity at distance x; a line is [intercept, slope]."""
    return line[0] + line[1] * x


def loss(line: Any, x: Any, y: Any) -> Any:
    """Mean squared error, (km/s)²."""
    return jnp.mean((predict(line, x) - y) ** 2)


def closed_form(x: Any, y: Any) -> Any:
    """The line where the gradient is zero: the normal equations X'X line = X'y."""
    columns = jnp.stack([jnp.ones_like(x), x], axis=1)
    return jnp.linalg.solve(columns.T @ columns, columns.T @ y)


@partial(asgfn.jit, static_argnums=2)
def gradient_descent(x: Any, y: Any, steps: int) -> tuple[Any, Any]:
    """The line after so many steps from zero, and the line after every step [steps, 2]."""
    start = jnp.zeros(2)
    curvature = jnp.linalg.eigvalsh(asgfn.hessian(loss)(start, x, y))
    rate = 2 / (curvature[0] + curvature[-1])  # the best constant step size for a quadratic function

    def step(line: Any, _: None) -> tuple[Any, Any]:
        line = line - rate * asgfn.grad(loss)(line, x, y)
        return line, line

    return lax.scan(step, start, length=steps)


@asgfn.jit
def bootstrap(rows: Any, x: Any, y: Any) -> Any:
    """The lines [fits, 2] through resampled data; `rows` [fits, n] says which points are in each."""
    return asgfn.vmap(lambda r: closed_form(x[r], y[r]))(rows)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Runs the example; returns the slope, its standard error, and how far the two solutions differ."""
    parser = argparse.ArgumentParser(description="Fit Hubble's law by closed form and by gradient descent.")
    parser.add_argument("--steps", type=int, default=100, help="steps of gradient descent")
    parser.add_argument("--resamples", type=int, default=1000, help="resampled data sets for the uncertainty")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/linear_regression"), help="folder for the picture")
    options = parser.parse_args(argv)

    x, y = jnp.asarray(DISTANCE), jnp.asarray(VELOCITY)
    exact = closed_form(x, y)
    descended, path = gradient_descent(x, y, options.steps)
    distance_left = jnp.linalg.norm(path - exact, axis=1)

    rows = random.randint(random.key(options.seed), (options.resamples, len(x)), 0, len(x))
    lines = bootstrap(rows, x, y)
    low, high = np.percentile(np.asarray(lines[:, 1]), [2.5, 97.5])
    error = float(jnp.std(lines[:, 1]))

    print(f"closed form:       velocity = {exact[0]:8.3f} + {exact[1]:.3f} * distance")
    print(
        f"gradient descent:  velocity = {descended[0]:8.3f} + {descended[1]:.3f} * distance   ({options.steps} steps)"
    )
    print(f"root mean square residual: {float(jnp.sqrt(loss(exact, x, y))):.1f} km/s")
    print(f"Hubble constant: {exact[1]:.0f} ± {error:.0f} km/s/Mpc, 95% between {low:.0f} and {high:.0f}")
    print(f"an age of {GIGAYEARS / exact[1]:.1f} billion years; today's distances are longer, and give about 14")

    grid = np.linspace(0, 2.15, 50, dtype=np.float32)
    fan = np.asarray(asgfn.vmap(predict, in_axes=(0, None))(lines, grid))
    figure, (left, right) = pictures.panels(2)
    band = np.percentile(fan, [2.5, 97.5], axis=0)
    left.fill_between(grid, *band, color=pictures.BLUE, alpha=0.15, linewidth=0, label="95% of the resampled fits")
    left.plot(grid, predict(exact, grid), color=pictures.BLUE, linewidth=2, label=f"{exact[1]:.0f} km/s/Mpc")
    left.plot(DISTANCE, VELOCITY, "o", color=pictures.RED, markersize=5, markeredgecolor="white", label="galaxies")
    pictures.style(left, "Hubble's law, 1929", "distance / Mpc", "velocity / km/s")
    plot.losses(
        (np.arange(1, options.steps + 1), distance_left),
        ax=right,
        log=True,
        ylabel="distance from the closed form",
        title="Gradient descent",
    )
    pictures.save(figure, options.out, "fit.png")
    return {"slope": float(exact[1]), "error": error, "difference": float(distance_left[-1])}


if __name__ == "__main__":
    main()
