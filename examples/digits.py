"""The main job: an MLP learns to read handwritten digits (UCI, 8x8 pixels), on data that comes with the package.

    python -m examples.digits

It trains for a few seconds, prints the accuracy on digits that it has never seen, and saves a checkpoint, a plot of the
loss and a picture of the model's graph.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import asgfn
import asgfn.numpy as jnp
import nn_fn
from asgfn import plot, random
from nn_fn.data import load_digits


def main(argv: Sequence[str] | None = None) -> float:
    """Runs the example; returns the test accuracy."""
    parser = argparse.ArgumentParser(description="Train an MLP on handwritten digits.")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="folder for checkpoint and plots")
    options = parser.parse_args(argv)

    train_x, train_y = load_digits("train", flatten=True)
    test_x, test_y = load_digits("test", flatten=True)

    model = nn_fn.sequential(
        nn_fn.linear(64, 128), nn_fn.activation("relu"), nn_fn.dropout(0.2),
        nn_fn.linear(128, 128), nn_fn.activation("relu"), nn_fn.dropout(0.2),
        nn_fn.linear(128, 10),
    )  # fmt: skip
    init_key, shuffle_key, dropout_key = random.split(random.key(options.seed), 3)
    params, _ = model.init(init_key)
    optimiser = nn_fn.adamw(2e-3, weight_decay=1e-2)
    state = optimiser.init(params)

    def loss_fn(params, x, y, key):
        logits, _ = model(params, {}, x, key=key, train=True)
        return nn_fn.losses.cross_entropy(logits, y)

    @asgfn.jit(donate_argnums=(0, 1))
    def step(params, state, x, y, key):
        loss, grads = asgfn.value_and_grad(loss_fn)(params, x, y, key)
        updates, state = optimiser.update(grads, state, params)
        return nn_fn.apply_updates(params, updates), state, loss

    @asgfn.jit
    def evaluate(params, x, y):
        return nn_fn.losses.accuracy(model(params, x), y)

    history: dict[str, list[float]] = {"train loss": []}
    started = time.perf_counter()
    n, size = len(train_x), options.batch_size
    count = 0
    for epoch in range(options.epochs):
        order = np.asarray(random.permutation(random.fold_in(shuffle_key, epoch), n))
        for first in range(0, n - size + 1, size):
            rows = order[first : first + size]
            key = random.fold_in(dropout_key, count)
            params, state, loss = step(params, state, train_x[rows], train_y[rows], key)
            history["train loss"].append(float(loss))
            count += 1
        if epoch % 10 == 9 or epoch == options.epochs - 1:
            recent = np.mean(history["train loss"][-20:])
            accuracy = float(evaluate(params, test_x, test_y))
            print(f"epoch {epoch + 1:3d}: train loss {recent:.4f}, test accuracy {accuracy:.4f}")
    accuracy = float(evaluate(params, test_x, test_y))
    print(f"{count} steps in {time.perf_counter() - started:.1f} s")

    nn_fn.save_checkpoint(
        options.out / "checkpoint.safetensors", {"params": params, "optimiser": state}, {"steps": count}
    )
    plot.losses(history, path=options.out / "loss.png", smoothing=0.9, title="Digits: training loss")
    plot.graph(
        lambda params, x: model(params, x),
        params,
        jnp.asarray(test_x[:1]),
        path=options.out / "model.png",
        title="Digits: the model",
    )
    print(f"saved checkpoint.safetensors, loss.png and model.png in {options.out}/")
    print(f"test accuracy: {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
