"""A small vision transformer on Fashion-MNIST: images are cut into patches, which attend to each other.

    python -m examples.vit_fashion_mnist --epochs 3

The data are those of Debian's package `dataset-fashion-mnist`, or are downloaded. It saves checkpoints, from which
`--resume` goes on, and prints the accuracy on the 10,000 test images.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nn_fn
from asgfn import random
from examples.arguments import parser, run_folder
from nn_fn import functional as F
from nn_fn import metrics, optimisers, schedules
from nn_fn.data import ArrayDataset, DataLoader, load_fashion_mnist


@nn_fn.constructor
def first_token() -> nn_fn.Layer:
    """[N, length, features] -> [N, features]: what the class token has become."""
    return nn_fn.simple("first_token", lambda params, x: x[:, 0])


def network(features: int = 64, heads: int = 4, blocks: int = 4, patch: int = 4) -> nn_fn.Layer:
    """A ViT for images [N, 1, 28, 28] of ten classes (A. Dosovitskiy et al., 2021)."""
    block = nn_fn.transformer_encoder_block(features, heads, hidden=2 * features, dropout=0.1, activation="gelu")
    return nn_fn.sequential(
        patches=nn_fn.patch_embedding(1, features, patch, 28, class_token=True, learned_positions=True),
        blocks=nn_fn.repeat(block, blocks),
        norm=nn_fn.layer_norm(features),
        token=first_token(),
        head=nn_fn.linear(features, 10),
    )


def main(argv: Sequence[str] | None = None) -> float:
    """Runs the example; returns the test accuracy."""
    arguments = parser("Train a ViT on Fashion-MNIST.", "runs/vit_fashion_mnist", epochs=3, batch_size=100)
    arguments.add_argument("--data", type=Path, help="folder with the official files")
    arguments.add_argument("--limit", type=int, help="use only so many images")
    options = arguments.parse_args(argv)

    sets = [load_fashion_mnist(split, root=options.data, channel_axis=1) for split in ("train", "test")]
    train, test = (ArrayDataset(images[: options.limit], labels[: options.limit]) for images, labels in sets)
    batches = DataLoader(train, options.batch_size, shuffle=True, drop_last=True, seed=options.seed)

    model = network()
    print(nn_fn.summary(model, (options.batch_size, 1, 28, 28)))
    total = options.epochs * len(batches)
    rate = schedules.warmup_cosine_decay_schedule(0.0, 2e-3, min(200, total // 2), total)
    optimiser = optimisers.chain(optimisers.clip_by_global_norm(1.0), optimisers.adamw(rate, weight_decay=0.05))

    def loss(logits: Any, labels: Any) -> Any:
        return F.cross_entropy(logits, labels, label_smoothing=0.1)

    step = nn_fn.train_step(nn_fn.supervised(model, loss), optimiser, backend=options.backend)
    state = nn_fn.init_train_state(model, optimiser, random.key(options.seed))
    scores = metrics.collection(loss=metrics.log_loss(from_logits=True), accuracy=metrics.accuracy())
    evaluate = nn_fn.evaluator(model, scores, DataLoader(test, 250), backend=options.backend)

    logger, checkpoints = run_folder(options, best_metric="val_accuracy", mode="max")
    started = time.perf_counter()
    result = nn_fn.fit(
        step,
        state,
        batches,
        epochs=options.epochs,
        evaluate=evaluate,
        logger=logger,
        checkpoints=checkpoints,
        checkpoint_every=200,
        plot=options.out / "loss.png",
    )
    print(f"{int(result.state.step)} steps, {time.perf_counter() - started:.1f} s")
    print(result.logger.format_line())
    accuracy = result.logger.last("val_accuracy")
    print(f"test accuracy: {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
