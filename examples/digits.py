"""The main job: an MLP learns to read handwritten digits (UCI, 8x8 pixels), on data that comes with the package.

    python -m examples.digits

It trains for a few seconds, prints the accuracy on digits that it has never seen, and saves a checkpoint, a plot of the
loss and a picture of the model's graph.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import asgfn.numpy as jnp
import nn_fn
from asgfn import plot, random
from examples.arguments import parser
from nn_fn import functional as F
from nn_fn import metrics, schedules
from nn_fn.data import ArrayDataset, DataLoader, load_digits


def main(argv: Sequence[str] | None = None) -> float:
    """Runs the example; returns the test accuracy."""
    options = parser("Train an MLP on handwritten digits.", "runs/digits", epochs=40, batch_size=64).parse_args(argv)

    train = ArrayDataset(*load_digits("train", flatten=True))
    test = ArrayDataset(*load_digits("test", flatten=True))
    batches = DataLoader(train, options.batch_size, shuffle=True, drop_last=True, seed=options.seed)

    model = nn_fn.sequential(
        nn_fn.dropout(0.1),
        nn_fn.linear(64, 256), nn_fn.activation("relu"), nn_fn.dropout(0.4),
        nn_fn.linear(256, 256), nn_fn.activation("relu"), nn_fn.dropout(0.4),
        nn_fn.linear(256, 10),
    )  # fmt: skip
    rate = schedules.cosine_decay_schedule(3e-3, options.epochs * len(batches))
    optimiser = nn_fn.adamw(rate, weight_decay=0.1)
    step = nn_fn.train_step(nn_fn.supervised(model, F.cross_entropy), optimiser, backend=options.backend)
    state = nn_fn.init_train_state(model, optimiser, random.key(options.seed))
    scores = metrics.collection(loss=metrics.log_loss(from_logits=True), accuracy=metrics.accuracy())
    evaluate = nn_fn.evaluator(model, scores, DataLoader(test, 128), backend=options.backend)

    started = time.perf_counter()
    result = nn_fn.fit(step, state, batches, epochs=options.epochs, evaluate=evaluate, log_every=len(batches))
    print(f"{int(result.state.step)} steps in {time.perf_counter() - started:.1f} s")
    print(result.logger.format_line())

    params = result.state.params
    nn_fn.save_checkpoint(options.out / "checkpoint.safetensors", result.state, {"model": nn_fn.to_config(model)})
    nn_fn.training.plot_losses(result.logger, options.out / "loss.png")
    plot.graph(
        lambda params, x: model(params, x),
        params,
        jnp.zeros((1, 64)),
        path=options.out / "model.png",
        title="Digits: the model",
    )
    print(f"saved checkpoint.safetensors, loss.png and model.png in {options.out}/")
    accuracy = result.logger.last("val_accuracy")
    print(f"test accuracy: {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
