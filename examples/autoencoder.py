"""A convolutional autoencoder: handwritten digits squeezed into a few numbers each, and drawn from them again.

    python -m examples.autoencoder

The digits come with the package. A linear method (principal components) with as many numbers is the measure to beat. It
draws test digits, what the network makes of them, and what principal components make of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import asgfn
import nn_fn
from asgfn import random
from examples.arguments import parser
from nn_fn import functional as F
from nn_fn.data import ArrayDataset, DataLoader, load_digits


def network(code: int) -> nn_fn.Layer:
    """Images [N, 1, 8, 8] to codes [N, code], and back."""
    return nn_fn.sequential(
        encoder=nn_fn.sequential(
            nn_fn.conv2d(1, 16, 3, padding=1), nn_fn.activation("gelu"),
            nn_fn.conv2d(16, 32, 3, stride=2, padding=1), nn_fn.activation("gelu"),
            nn_fn.flatten(), nn_fn.linear(32 * 16, code),
        ),
        decoder=nn_fn.sequential(
            nn_fn.linear(code, 32 * 16), nn_fn.unflatten(1, (32, 4, 4)), nn_fn.activation("gelu"),
            nn_fn.conv_transpose2d(32, 16, 4, stride=2, padding=1), nn_fn.activation("gelu"),
            nn_fn.conv2d(16, 1, 3, padding=1), nn_fn.activation("sigmoid"),
        ),
    )  # fmt: skip


def principal_components(train: np.ndarray, test: np.ndarray, count: int) -> np.ndarray:
    """Test images [n, 1, 8, 8] from their first principal components, those of the training images."""
    flat, mean = train.reshape(len(train), -1), train.mean(axis=0).reshape(-1)
    _, _, components = np.linalg.svd(flat - mean, full_matrices=False)
    basis = components[:count]
    return ((test.reshape(len(test), -1) - mean) @ basis.T @ basis + mean).reshape(test.shape)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Runs the example; returns mean squared errors per pixel on the test digits."""
    arguments = parser("Train an autoencoder on handwritten digits.", "runs/autoencoder", epochs=30, batch_size=64)
    arguments.add_argument("--code", type=int, default=8, help="how many numbers stand for an image")
    options = arguments.parse_args(argv)

    train, test = (load_digits(split)[0][:, None] for split in ("train", "test"))
    batches = DataLoader(ArrayDataset(train, train), options.batch_size, shuffle=True, drop_last=True)
    model = network(options.code)
    print(nn_fn.summary(model, (options.batch_size, 1, 8, 8)))
    optimiser = nn_fn.adam(2e-3)
    step = nn_fn.train_step(nn_fn.supervised(model, F.mse_loss), optimiser, backend=options.backend)
    state = nn_fn.init_train_state(model, optimiser, random.key(options.seed))
    result = nn_fn.fit(step, state, batches, epochs=options.epochs)

    drawn = np.asarray(asgfn.jit(lambda params, x: model(params, x))(result.state.params, test))
    linear = principal_components(train, test, options.code)
    errors = {"autoencoder": float(np.mean((drawn - test) ** 2)), "components": float(np.mean((linear - test) ** 2))}
    draw(test, drawn, linear, options.out / "digits.png")
    nn_fn.training.plot_losses(result.logger, options.out / "loss.png")
    print(f"saved digits.png and loss.png in {options.out}/")
    print(
        f"mean squared error with {options.code} numbers an image: {errors['autoencoder']:.4f}, "
        f"with as many principal components {errors['components']:.4f}"
    )
    return errors


def draw(original: np.ndarray, drawn: np.ndarray, linear: np.ndarray, path: Path, count: int = 10) -> None:
    """A row of digits, of the network's, and of principal components'."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(count * 0.8, 2.8), layout="constrained")
    axes = figure.subplots(3, count)
    for row, (name, images) in enumerate({"digits": original, "network": drawn, "components": linear}.items()):
        for column in range(count):
            axes[row, column].imshow(images[column, 0], cmap="gray_r", vmin=0, vmax=1)
            axes[row, column].set(xticks=[], yticks=[])
        axes[row, 0].set_ylabel(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
