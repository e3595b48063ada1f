"""A neural ODE learns how a pendulum moves from noisy observations of it.

    python -m examples.neural_ode

The unknown right-hand side of dy/dt = f(y) is a small network; its trajectories come from a Runge-Kutta solver written
with `scan`, and gradients go straight through the solver. `vmap` solves all trajectories at once. (R. Chen et al.,
Neural ordinary differential equations, 2018.) The program then lets the learned pendulum swing from starts that it has
never seen, for twice as long as it was ever observed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import asgfn
import asgfn.numpy as jnp
import nn_fn
from asgfn import lax, plot, random
from examples import pictures
from nn_fn import functional as F

INTERVAL = 0.3  # seconds between observations
NOISE = 0.02  # standard deviation of an observation, in radians and radians per second


def pendulum(y: Any) -> Any:
    """d/dt of [angle, angular velocity] of a damped pendulum: the truth, which the network is not told."""
    angle, velocity = y[..., 0], y[..., 1]
    return jnp.stack([velocity, -jnp.sin(angle) - 0.15 * velocity], axis=-1)


def solve(field: Callable, start: Any, steps: int) -> Any:
    """The trajectory [steps + 1, 2] of dy/dt = field(y), by the classical fourth-order Runge-Kutta method."""
    h = INTERVAL

    def step(y: Any, _: None) -> tuple[Any, Any]:
        k1 = field(y)
        k2 = field(y + h / 2 * k1)
        k3 = field(y + h / 2 * k2)
        k4 = field(y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y, y

    _, rest = lax.scan(step, start, length=steps)
    return jnp.concatenate([start[None], rest])


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Runs the example; returns losses, and root mean square errors on unseen starts."""
    parser = argparse.ArgumentParser(description="Fit a neural ODE to a pendulum.")
    parser.add_argument("--steps", type=int, default=600, help="steps of training")
    parser.add_argument("--trajectories", type=int, default=24)
    parser.add_argument("--observations", type=int, default=20, help="observations a trajectory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/neural_ode"), help="folder for the picture")
    options = parser.parse_args(argv)
    start_key, noise_key, init_key, test_key = random.split(random.key(options.seed), 4)
    length = options.observations

    solve_truth = asgfn.jit(
        asgfn.vmap(lambda start, steps: solve(pendulum, start, steps), in_axes=(0, None)), static_argnums=1
    )
    starts = random.uniform(start_key, (options.trajectories, 2), minval=-1.4, maxval=1.4)  # none swings over the top
    clean = solve_truth(starts, length)
    observed = clean + NOISE * random.normal(noise_key, clean.shape)

    model = nn_fn.sequential(nn_fn.linear(2, 32), nn_fn.activation("tanh"), nn_fn.linear(32, 2))
    params, _ = model.init(init_key)
    optimiser = nn_fn.adam(lambda count: 2e-2 * 0.5 ** (count / 150))
    state = optimiser.init(params)

    def rollout(params, starts, steps):
        return asgfn.vmap(lambda start: solve(lambda y: model(params, y), start, steps))(starts)

    def loss_fn(params, observed):
        return F.mse_loss(rollout(params, observed[:, 0], length), observed)

    @asgfn.jit
    def step(params, state):
        loss, grads = asgfn.value_and_grad(loss_fn)(params, observed)
        updates, state = optimiser.update(grads, state, params)
        return nn_fn.apply_updates(params, updates), state, loss

    # starts are observed with noise too: even the truth, started there, misses the observations by this much
    floor = float(F.mse_loss(solve_truth(observed[:, 0], length), observed))
    history = []
    started = time.perf_counter()
    for count in range(1, options.steps + 1):
        params, state, loss = step(params, state)
        history.append(float(loss))
        if count % 100 == 0 or count == options.steps:
            print(f"step {count:4d}: loss {loss:.5f}   ({time.perf_counter() - started:.1f} s)")

    new_starts = random.uniform(test_key, (16, 2), minval=-1.3, maxval=1.3)
    truth = solve_truth(new_starts, 2 * length)
    learned = asgfn.jit(rollout, static_argnums=2)(params, new_starts, 2 * length)
    errors = jnp.sqrt(jnp.mean((learned - truth) ** 2, axis=(0, 2)))
    within, beyond = float(jnp.mean(errors[: length + 1])), float(jnp.mean(errors[length + 1 :]))
    seconds = length * INTERVAL
    print(f"unseen starts: error {within:.3f} in the first {seconds:.0f} s, {beyond:.3f} in the {seconds:.0f} s after")
    print(f"the loss of the true pendulum is {floor:.5f}; its angle varies by {float(jnp.std(truth[..., 0])):.2f}")

    figure, (left, middle, right) = pictures.panels(3, width=4.8)
    truth_curve = (np.array([0.0, len(history)]), np.full(2, floor))
    plot.losses({"network": history, "true pendulum": truth_curve}, ax=left, log=True, title="Training")
    side = np.linspace(-2.0, 2.0, 24, dtype=np.float32)
    angle, velocity = np.meshgrid(side, side)
    arrows = np.asarray(model(params, jnp.asarray(np.stack([angle, velocity], axis=-1))))
    middle.streamplot(
        angle, velocity, arrows[..., 0], arrows[..., 1], color="#B9C3D1", linewidth=0.7, arrowsize=0.7, density=1.1
    )
    times = np.arange(2 * length + 1) * INTERVAL
    for number, colour in zip(range(3), (pictures.BLUE, pictures.RED, pictures.GREEN), strict=True):
        real, found = np.asarray(truth[number]), np.asarray(learned[number])
        middle.plot(*real.T, color=colour, linewidth=4, alpha=0.3)
        middle.plot(*found.T, color=colour, linewidth=1.4)
        middle.plot(*real[0], "o", color=colour, markersize=5, markeredgecolor="white")
        right.plot(times, real[:, 0], color=colour, linewidth=4, alpha=0.3, label="pendulum" if number == 0 else None)
        right.plot(times, found[:, 0], color=colour, linewidth=1.4, label="learned" if number == 0 else None)
    right.axvspan(0, seconds, color=pictures.GRID, alpha=0.6, linewidth=0, label="time observed")
    middle.set_xlim(-2.0, 2.0)
    middle.set_ylim(-2.0, 2.0)
    pictures.style(middle, "The learned field, and unseen starts", "angle / rad", "velocity / rad/s")
    pictures.style(right, "Unseen starts, twice as long", "time / s", "angle / rad")
    pictures.save(figure, options.out, "pendulum.png")
    return {"loss": history[-1], "floor": floor, "within": within, "beyond": beyond}


if __name__ == "__main__":
    main()
