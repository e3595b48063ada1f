"""Fashion-MNIST with augmentation, batch 128, 2 workers: the share of a training loop that waits for data.

The loop trains a CNN (conv3x3 1-32, relu, pool, conv3x3 32-64, relu, pool, linear) with SGD, and every image is cropped
out of a margin of 2, flipped, and rotated by up to 10 degrees. "wait" is the time between the loop's asking for a batch and
its getting one, from the second batch on, as a share of the loop's time; once with the training step, and once with a step
that leaves the processors alone for 20 ms, as a GPU would. Without the files of Fashion-MNIST random images of the same
size take their place ("real images" is 0).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

BATCH = 128
WORKERS = 2
STEPS = 60
GPU_STEP = 0.02


def images_and_labels() -> tuple[np.ndarray, np.ndarray, bool]:
    """60,000 images uint8[n, 28, 28], their labels, and whether they are real."""
    from nn_fn.data import DataNotFoundError, load_fashion_mnist

    try:
        images, labels = load_fashion_mnist("train", scale=False, download=False)
        return images, labels, True
    except DataNotFoundError:
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (60_000, 28, 28), np.uint8), rng.integers(0, 10, 60_000, np.int32), False


def parameters() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = ((32, 1, 3, 3), (32, 1, 1), (64, 32, 3, 3), (64, 1, 1), (64 * 49, 10), (10,))
    fan_in = (9, 9, 288, 288, 64 * 49, 64 * 49)
    return [rng.normal(0, 1 / np.sqrt(n), s).astype(np.float32) for s, n in zip(shapes, fan_in, strict=True)]


def training_step() -> Callable[[Any, Any], Any]:
    """`step(images, labels)`, which trains our CNN in place and waits until it is done."""
    import asgfn
    import asgfn.numpy as jnp
    from asgfn import lax, nn

    def pool(x: Any) -> Any:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        k1, b1, k2, b2, w, b = params
        x = pool(nn.relu(lax.conv_general_dilated(x, k1, (1, 1), "SAME") + b1))
        x = pool(nn.relu(lax.conv_general_dilated(x, k2, (1, 1), "SAME") + b2))
        logp = nn.log_softmax(x.reshape(x.shape[0], -1) @ w + b)
        return -jnp.mean(jnp.take_along_axis(logp, y[:, None], axis=1))

    @asgfn.jit
    def step(params: Any, x: Any, y: Any) -> Any:
        loss, grads = asgfn.value_and_grad(loss_of)(params, x, y)
        return asgfn.tree.map(lambda p, g: p - 0.05 * g, params, grads), loss

    state = [[jnp.asarray(p) for p in parameters()]]

    def run(x: np.ndarray, y: np.ndarray) -> None:
        state[0], loss = step(state[0], x[:, None], y)
        asgfn.block_until_ready((state[0], loss))

    return run


def ours() -> dict[str, float]:
    from nn_fn.data import ArrayDataset, DataLoader
    from nn_fn.data import transforms as T

    images, labels, real = images_and_labels()
    augment = T.ApplyTo(
        0,
        T.Compose(
            [
                T.ToFloat(),
                T.RandomCrop(28, padding=2, layout="HW"),
                T.RandomHorizontalFlip(layout="HW"),
                T.RandomRotation(10, layout="HW"),
            ]
        ),
    )

    def loader(workers: int) -> DataLoader:
        return DataLoader(
            ArrayDataset(images, labels),
            BATCH,
            shuffle=True,
            drop_last=True,
            batch_transform=augment,
            num_workers=workers,
        )

    with loader(WORKERS) as fed:
        figures = measured(fed, loader(0))
    return {**figures, "real images": float(real)}


def measured(fed: Any, in_process: Any) -> dict[str, float]:
    """All figures of a loader with workers and of one without."""
    step = training_step()
    step(np.zeros((BATCH, 28, 28), np.float32), np.zeros(BATCH, np.int32))
    first, wait, busy = _loop(fed, step)
    _, gpu_wait, gpu_busy = _loop(fed, lambda x, y: time.sleep(GPU_STEP))
    return {
        "wait (share)": wait / (wait + busy),
        "wait, 20 ms step (share)": gpu_wait / (gpu_wait + gpu_busy),
        "training step (ms)": busy / STEPS * 1e3,
        "first batch (s)": first,
        f"batches/s, {WORKERS} workers": _batches_per_second(fed),
        "batches/s, in process": _batches_per_second(in_process),
    }


def _loop(batches: Any, step: Callable[[Any, Any], Any]) -> tuple[float, float, float]:
    """Seconds until the first batch, waiting for later ones, and in the step, of a loop of `STEPS` steps."""
    first = wait = busy = 0.0
    asked = time.perf_counter()
    iterator = iter(batches)
    for number in range(STEPS):
        x, y = next(iterator)
        given = time.perf_counter()
        step(np.asarray(x), np.asarray(y, np.int32))
        done = time.perf_counter()
        if number == 0:
            first = given - asked
        else:
            wait += given - asked
        busy += done - given
        asked = done
    return first, wait, busy


def _batches_per_second(batches: Any) -> float:
    """Of a loader alone, once it runs."""
    iterator = iter(batches)
    for _ in range(5):
        next(iterator)
    started = time.perf_counter()
    for _ in range(STEPS):
        next(iterator)
    return STEPS / (time.perf_counter() - started)


class TorchImages:
    """The same items and augmentation for PyTorch, one image at a time, as its loader wants them."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        import torch
        from torch.nn import functional as F

        image = torch.from_numpy(self.images[index]).float()[None, None] / 255
        top, left = torch.randint(0, 5, (2,)).tolist()
        image = F.pad(image, (2, 2, 2, 2))[:, :, top : top + 28, left : left + 28]
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
        angle = (torch.rand(()) * 2 - 1) * np.pi / 18
        cos, sin = torch.cos(angle).item(), torch.sin(angle).item()
        grid = F.affine_grid(torch.tensor([[[cos, -sin, 0.0], [sin, cos, 0.0]]]), [1, 1, 28, 28], align_corners=False)
        return F.grid_sample(image, grid, align_corners=False)[0, 0].numpy(), int(self.labels[index])


def torch() -> dict[str, float]:
    """PyTorch's loader with the same work an image, feeding our training step."""
    import torch
    from torch.utils.data import DataLoader

    images, labels, real = images_and_labels()
    torch.set_num_threads(1)

    def loader(workers: int) -> DataLoader:
        return DataLoader(
            TorchImages(images, labels),  # type: ignore[arg-type]
            BATCH,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
        )

    return {**measured(loader(WORKERS), loader(0)), "real images": float(real)}


VARIANTS = {"asgfn": ours, "torch": torch}
