"""A recurrent network learns to go on with a wave: from 40 noisy samples it continues a sine of any size and period.

    python -m examples.rnn_sine --cell lstm

It is trained to predict the next sample. Then it runs on its own: each prediction is its next input, and the state of
the layer carries what it knows from call to call. The picture shows waves that it has never seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import asgfn
import asgfn.numpy as jnp
import nn_fn
from asgfn import lax, random
from examples.arguments import parser
from nn_fn import functional as F
from nn_fn import optimisers, schedules
from nn_fn.data import ArrayDataset, DataLoader

SEEN, AHEAD, NOISE = 40, 40, 0.02
CELLS = {"rnn": nn_fn.rnn, "gru": nn_fn.gru, "lstm": nn_fn.lstm}


def waves(count: int, seed: int) -> np.ndarray:
    """Sines of random phase, size and period (10 to 30 samples), float32 [count, SEEN + AHEAD, 1]."""
    draws = np.random.RandomState(seed)
    period, phase, size = (draws.uniform(low, high, (count, 1)) for low, high in ((10, 30), (0, 2 * np.pi), (0.3, 1)))
    return (size * np.sin(2 * np.pi * np.arange(SEEN + AHEAD) / period + phase))[..., None].astype(np.float32)


def go_on(model: nn_fn.Layer, params: Any, start: Any, count: int) -> Any:
    """The samples after `start`, float32 [batch, length, 1]: what the model predicts, one after the other."""
    state = model.init_cache(start.shape[0], start.shape[1] + count)
    predicted, state = model(params, state, start)

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        sample, state = carry
        following, state = model(params, state, sample)
        return (following, state), sample[:, 0]

    _, samples = lax.scan(step, (predicted[:, -1:], state), None, length=count)
    return jnp.swapaxes(samples, 0, 1)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Runs the example; returns root mean squared errors of the continuation."""
    arguments = parser("Train a recurrent network to continue waves.", "runs/rnn_sine", epochs=60, batch_size=32)
    arguments.add_argument("--cell", choices=CELLS, default="gru")
    arguments.add_argument("--waves", type=int, default=1024, help="how many to train on")
    arguments.add_argument("--hidden", type=int, default=64)
    options = arguments.parse_args(argv)

    train, test = waves(options.waves, seed=1), waves(100, seed=2)
    noisy = train + NOISE * np.random.RandomState(3).standard_normal(train.shape).astype(np.float32)
    batches = DataLoader(ArrayDataset(noisy[:, :-1], train[:, 1:]), options.batch_size, shuffle=True, drop_last=True)
    model = nn_fn.sequential(CELLS[options.cell](1, options.hidden), nn_fn.linear(options.hidden, 1))
    rate = schedules.cosine_decay_schedule(1e-2, options.epochs * len(batches))
    optimiser = optimisers.chain(optimisers.clip_by_global_norm(1.0), nn_fn.adam(rate))
    step = nn_fn.train_step(nn_fn.supervised(model, F.mse_loss), optimiser, backend=options.backend)
    state = nn_fn.init_train_state(model, optimiser, random.key(options.seed))
    result = nn_fn.fit(step, state, batches, epochs=options.epochs)

    continued = asgfn.jit(lambda params, start: go_on(model, params, start, AHEAD))(result.state.params, test[:, :SEEN])
    future = test[:, SEEN:]
    near = slice(0, 10)
    errors = {
        "next 10": float(np.sqrt(np.mean((np.asarray(continued)[:, near] - future[:, near]) ** 2))),
        "all": float(np.sqrt(np.mean((np.asarray(continued) - future) ** 2))),
        "guess": float(np.sqrt(np.mean(future**2))),
    }
    draw(test, np.asarray(continued), options.out / "waves.png")
    nn_fn.training.plot_losses(result.logger, options.out / "loss.png")
    print(f"saved waves.png and loss.png in {options.out}/")
    print(
        f"root mean squared error of the next 10 samples {errors['next 10']:.3f}, of {AHEAD} {errors['all']:.3f}; "
        f"of always guessing 0: {errors['guess']:.3f}"
    )
    return errors


def draw(truth: np.ndarray, continued: np.ndarray, path: Path, count: int = 4) -> None:
    """Some waves, and how the network goes on with them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.6 * count), layout="constrained")
    for axis, wave, ahead in zip(figure.subplots(count, sharex=True), truth, continued, strict=False):
        axis.plot(wave[:, 0], color="0.7", label="wave")
        axis.plot(np.arange(SEEN, SEEN + AHEAD), ahead[:, 0], "--", color="tab:blue", label="network")
        axis.axvline(SEEN - 0.5, color="0.5", linewidth=0.8)
    figure.axes[0].legend(loc="upper left", fontsize=8)
    figure.axes[-1].set_xlabel("sample")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
