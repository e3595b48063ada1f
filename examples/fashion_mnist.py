"""A convolutional network learns to tell clothes apart: Fashion-MNIST, 60,000 real images.

    python -m examples.fashion_mnist --epochs 3

It is trained with augmented images, saves checkpoints from which `--resume` goes on, and prints the accuracy on the
10,000 test images: above 0.90 after three epochs. The data are those of Debian's package `dataset-fashion-mnist`, or
are downloaded.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import nn_fn
from asgfn import random
from examples.arguments import parser, run_folder
from nn_fn import functional as F
from nn_fn import metrics, schedules
from nn_fn.data import ArrayDataset, DataLoader, load_fashion_mnist
from nn_fn.data.transforms import ApplyTo, Compose, RandomCrop, RandomHorizontalFlip


def network() -> nn_fn.Layer:
    """Two convolutions with batch norm and two linear layers: 226,000 parameters."""
    return nn_fn.sequential(
        nn_fn.conv2d(1, 32, 3, bias=False), nn_fn.batch_norm(32), nn_fn.activation("relu"), nn_fn.max_pool2d(2),
        nn_fn.conv2d(32, 64, 3, bias=False), nn_fn.batch_norm(64), nn_fn.activation("relu"), nn_fn.max_pool2d(2),
        nn_fn.flatten(),
        hidden=nn_fn.sequential(nn_fn.linear(64 * 5 * 5, 128), nn_fn.activation("relu"), nn_fn.dropout(0.3)),
        head=nn_fn.linear(128, 10),
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> float:
    """Runs the example; returns the test accuracy."""
    arguments = parser("Train a CNN on Fashion-MNIST.", "runs/fashion_mnist", epochs=3, batch_size=64)
    arguments.add_argument("--data", type=Path, help="folder with the official files")
    arguments.add_argument("--limit", type=int, help="use only so many images")
    arguments.add_argument("--augment", action="store_true", help="shift and flip the training images")
    arguments.add_argument("--workers", type=int, default=0, help="processes that prepare batches")
    options = arguments.parse_args(argv)

    sets = [load_fashion_mnist(split, root=options.data, channel_axis=1) for split in ("train", "test")]
    train, test = (ArrayDataset(images[: options.limit], labels[: options.limit]) for images, labels in sets)
    augment = ApplyTo(0, Compose([RandomCrop(28, padding=2), RandomHorizontalFlip()])) if options.augment else None
    batches = DataLoader(
        train,
        options.batch_size,
        shuffle=True,
        drop_last=True,
        seed=options.seed,
        batch_transform=augment,
        num_workers=options.workers,
    )

    model = network()
    print(nn_fn.summary(model, (options.batch_size, 1, 28, 28)))
    schedule = schedules.cosine_onecycle_schedule(options.epochs * len(batches), 3e-3)
    optimiser = nn_fn.adam(schedule)
    step = nn_fn.train_step(nn_fn.supervised(model, F.cross_entropy), optimiser, backend=options.backend)
    state = nn_fn.init_train_state(model, optimiser, random.key(options.seed))
    scores = metrics.collection(loss=metrics.log_loss(from_logits=True), accuracy=metrics.accuracy())
    evaluate = nn_fn.evaluator(model, scores, DataLoader(test, 250), backend=options.backend)

    logger, checkpoints = run_folder(options, best_metric="val_accuracy", mode="max")
    started = time.perf_counter()
    with batches:
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
