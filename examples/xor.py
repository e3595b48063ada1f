"""XOR: the smallest problem that needs a hidden layer.

    python -m examples.xor

No straight line separates the inputs where exactly one of two bits is set from the others (M. Minsky, S. Papert,
Perceptrons, 1969). A network with one small hidden layer learns to; the picture shows the boundary that it draws.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

import asgfn
import asgfn.numpy as jnp
import nn_fn
from asgfn import plot, random
from examples import pictures
from nn_fn import functional as F
from nn_fn import metrics

BITS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
XOR = np.array([0, 1, 1, 0], np.int32)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Runs the example; returns the last loss, the accuracy, and the last loss of a linear model."""
    parser = argparse.ArgumentParser(description="Learn XOR with a small network.")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--hidden", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/xor"), help="folder for the picture")
    options = parser.parse_args(argv)

    def train(model: nn_fn.Layer) -> tuple[dict, list[float]]:
        params, _ = model.init(random.key(options.seed))
        optimiser = nn_fn.adam(5e-2)
        state = optimiser.init(params)

        def loss_fn(params, x, y):
            return F.cross_entropy(model(params, x), y)

        @asgfn.jit
        def step(params, state):
            loss, grads = asgfn.value_and_grad(loss_fn)(params, BITS, XOR)
            updates, state = optimiser.update(grads, state, params)
            return nn_fn.apply_updates(params, updates), state, loss

        history = []
        for _ in range(options.steps):
            params, state, loss = step(params, state)
            history.append(float(loss))
        return params, history

    line = nn_fn.sequential(nn_fn.linear(2, 2))
    network = nn_fn.sequential(
        nn_fn.linear(2, options.hidden), nn_fn.activation("tanh"), nn_fn.linear(options.hidden, 2)
    )
    _, line_history = train(line)
    params, history = train(network)

    chance = asgfn.nn.softmax(network(params, BITS))[:, 1]
    for (a, b), wanted, p in zip(BITS.astype(int), XOR, np.asarray(chance), strict=True):
        print(f"{a} xor {b} = {wanted}   the network says {p:.4f}")
    accuracy = float(metrics.accuracy().evaluate(network(params, BITS), XOR))
    print(f"accuracy {accuracy:.2f}, loss {history[-1]:.2e}; a straight line stays at loss {line_history[-1]:.3f}")

    side = np.linspace(-0.5, 1.5, 121, dtype=np.float32)
    grid = np.stack(np.meshgrid(side, side), axis=-1)
    surface = np.asarray(asgfn.nn.softmax(network(params, jnp.asarray(grid)))[..., 1])
    figure, (left, right) = pictures.panels(2)
    plot.losses({"network": history, "straight line": line_history}, ax=left, log=True, title="XOR: loss")
    colours = LinearSegmentedColormap.from_list("classes", ["#E9A877", "white", "#6DAED2"])  # lighter than the points
    filled = right.contourf(side, side, surface, levels=np.linspace(0, 1, 21), cmap=colours)
    right.contour(side, side, surface, levels=[0.5], colors=pictures.INK, linewidths=1.4)
    for label, colour in enumerate((pictures.RED, pictures.BLUE)):
        right.plot(*BITS[label == XOR].T, "o", color=colour, markersize=11, markeredgecolor="white", markeredgewidth=2)
    right.set_aspect("equal")
    right.set_xticks([0, 1])
    right.set_yticks([0, 1])
    bar = figure.colorbar(filled, ax=right, ticks=[0, 0.5, 1])
    bar.set_label("probability of 1", fontsize=9, color=pictures.INK)
    bar.ax.tick_params(labelsize=8, colors=pictures.FAINT_INK)
    bar.outline.set_visible(False)
    pictures.style(right, "XOR: what the network says", "first bit", "second bit")
    right.grid(visible=False)
    pictures.save(figure, options.out, "xor.png")
    return {"loss": history[-1], "accuracy": accuracy, "linear loss": line_history[-1]}


if __name__ == "__main__":
    main()
