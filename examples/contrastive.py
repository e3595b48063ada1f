"""Digits arranged by likeness: a network is taught with triplets that two images of one digit belong together.

    python -m examples.contrastive

It never learns which digit is which, only that an anchor is nearer to another image of its kind than to one of another
kind (triplet loss; F. Schroff, D. Kalenichenko, J. Philbin, 2015). On images that it has not seen, the nearest
neighbour then tells the digit. The picture shows where the test images end up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import asgfn
import nn_fn
from asgfn import random
from examples.arguments import parser
from nn_fn import functional as F
from nn_fn.data import DataLoader, load_digits


class Triplets:
    """For each image: itself, another of its class, and one of another class, drawn anew in each epoch."""

    random = True

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels = images, labels
        self.of_class = [np.flatnonzero(labels == c) for c in range(labels.max() + 1)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        return self.get_item(index, np.random.default_rng(index))

    def get_item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        own = self.labels[index]
        others = [c for c in range(len(self.of_class)) if c != own]
        same = self.of_class[own][rng.integers(len(self.of_class[own]))]
        far = self.of_class[others[rng.integers(len(others))]]
        return self.images[index], self.images[same], self.images[far[rng.integers(len(far))]]


def nearest_neighbour_accuracy(
    codes: np.ndarray, labels: np.ndarray, known: np.ndarray, known_labels: np.ndarray
) -> float:
    """Share of codes [n, d] whose nearest known code [m, d] has their label."""
    distance = ((codes[:, None] - known[None]) ** 2).sum(axis=-1)
    return float(np.mean(known_labels[distance.argmin(axis=1)] == labels))


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Runs the example; returns accuracies of the nearest neighbour on the test images."""
    arguments = parser("Learn a space of digits with triplets.", "runs/contrastive", epochs=30, batch_size=64)
    arguments.add_argument("--dimensions", type=int, default=2)
    options = arguments.parse_args(argv)

    train, train_labels = load_digits("train", flatten=True)
    test, test_labels = load_digits("test", flatten=True)
    batches = DataLoader(Triplets(train, train_labels), options.batch_size, shuffle=True, drop_last=True)
    model = nn_fn.sequential(
        nn_fn.linear(64, 128), nn_fn.activation("relu"), nn_fn.linear(128, 128), nn_fn.activation("relu"),
        nn_fn.linear(128, options.dimensions),
    )  # fmt: skip

    def loss_fn(params: Any, model_state: Any, batch: Any, key: Any) -> Any:
        anchor, positive, negative = (model(params, x) for x in batch)
        return F.triplet_margin_loss(anchor, positive, negative, margin=1.0), (model_state, {})

    optimiser = nn_fn.adam(2e-3)
    step = nn_fn.train_step(loss_fn, optimiser, backend=options.backend)
    state = nn_fn.init_train_state(model, optimiser, random.key(options.seed))
    result = nn_fn.fit(step, state, batches, epochs=options.epochs)

    encode = asgfn.jit(lambda x: model(result.state.params, x))
    codes, known = np.asarray(encode(test)), np.asarray(encode(train))
    _, _, components = np.linalg.svd(train - train.mean(axis=0), full_matrices=False)
    basis = components[: options.dimensions].T
    accuracies = {
        "triplets": nearest_neighbour_accuracy(codes, test_labels, known, train_labels),
        "components": nearest_neighbour_accuracy(test @ basis, test_labels, train @ basis, train_labels),
    }
    draw(codes, test_labels, options.out / "space.png")
    nn_fn.training.plot_losses(result.logger, options.out / "loss.png")
    print(f"saved space.png and loss.png in {options.out}/")
    print(
        f"nearest neighbour in {options.dimensions} dimensions: {accuracies['triplets']:.3f} of test digits right, "
        f"with principal components {accuracies['components']:.3f}"
    )
    return accuracies


def draw(codes: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """The first two dimensions of the test images, coloured by digit."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    axis = figure.subplots()
    for digit in range(10):
        chosen = codes[labels == digit]
        axis.scatter(chosen[:, 0], chosen[:, 1], s=12, label=str(digit), color=f"C{digit}")
    axis.legend(title="digit", fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.set(xlabel="first dimension", ylabel="second dimension", title="Test digits where the network puts them")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
