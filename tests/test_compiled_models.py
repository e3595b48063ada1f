"""Models of `nn_fn` on backends that compile: loss, gradients, state and steps of optimisers, against the NumPy backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import asgfn
import nn_fn
from asgfn import random, tree
from nn_fn import functional as F
from nn_fn import optimisers
from nn_fn.precision import DynamicLossScale, policy
from tests.compiled_checks import assert_same, backend_fixture, cpu_fixture, gpu_fixture  # noqa: F401

RNG = np.random.default_rng(4)


class Training(NamedTuple):
    """A model, what it learns from, and its loss."""

    model: nn_fn.Layer
    x: np.ndarray
    y: np.ndarray
    loss: Callable


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def classes(n: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, n, shape).astype(np.int32)


def each_token(logits: Any, targets: Any) -> Any:
    return F.cross_entropy(logits, targets, axis=-1)


def _language_model(**block: Any) -> nn_fn.Layer:
    return nn_fn.sequential(
        embed=nn_fn.embedding(11, 8),
        blocks=nn_fn.repeat(nn_fn.transformer_encoder_block(8, 2, 16, dropout=0.1, causal=True, **block), 2),
        norm=nn_fn.layer_norm(8),
        head=nn_fn.linear(8, 11),
    )


def _recurrent(layer: Callable, **options: Any) -> nn_fn.Layer:
    inner = layer(5, 6, **options)
    width = 6 * (2 if options.get("bidirectional") else 1)
    last = nn_fn.simple("last", lambda params, x: (x[0] if isinstance(x, tuple) else x)[:, -1])
    return nn_fn.sequential(inner, last, nn_fn.linear(width, 3))


MODELS = {
    "mlp": Training(
        nn_fn.sequential(
            nn_fn.linear(6, 16), nn_fn.batch_norm(16), nn_fn.activation("relu"), nn_fn.dropout(0.3), nn_fn.linear(16, 3)
        ),
        normal(9, 6), classes(3, 9), F.cross_entropy,
    ),
    "regression": Training(
        nn_fn.sequential(nn_fn.linear(4, 8), nn_fn.rms_norm(8), nn_fn.activation("silu"), nn_fn.linear(8, 2)),
        normal(7, 4), normal(7, 2), F.huber_loss,
    ),
    "cnn": Training(
        nn_fn.sequential(
            nn_fn.conv2d(2, 4, 3, padding=1), nn_fn.batch_norm(4), nn_fn.activation("gelu"), nn_fn.max_pool2d(2),
            nn_fn.residual(nn_fn.sequential(nn_fn.conv2d(4, 4, 3, padding="same", groups=2), nn_fn.group_norm(2, 4))),
            nn_fn.spatial_dropout(0.2), nn_fn.adaptive_avg_pool2d(1), nn_fn.flatten(), nn_fn.linear(4, 3),
        ),
        normal(3, 2, 8, 9), classes(3, 3), F.cross_entropy,
    ),
    "autoencoder": Training(
        nn_fn.sequential(
            nn_fn.conv2d(1, 3, 3, stride=2, padding=1), nn_fn.activation("elu"),
            nn_fn.conv_transpose2d(3, 1, 4, stride=2, padding=1), nn_fn.activation("sigmoid"),
        ),
        normal(2, 1, 6, 6), RNG.random((2, 1, 6, 6)).astype(np.float32), F.binary_cross_entropy,
    ),
    "gpt": Training(_language_model(), classes(11, 2, 7), classes(11, 2, 7), each_token),
    "llama": Training(
        _language_model(norm="rms_norm", gated=True, activation="silu", rope=True, kv_heads=1, bias=False),
        classes(11, 2, 5), classes(11, 2, 5), each_token,
    ),
    "alibi": Training(_language_model(alibi=True, norm_first=False), classes(11, 3, 4), classes(11, 3, 4), each_token),
    "vision transformer": Training(
        nn_fn.sequential(
            nn_fn.patch_embedding(1, 8, 4), nn_fn.transformer_encoder_block(8, 2, 12, activation="gelu"),
            nn_fn.simple("mean", lambda params, x: x.mean(1)), nn_fn.linear(8, 3),
        ),
        normal(2, 1, 8, 8), classes(3, 2), F.cross_entropy,
    ),
    "lstm": Training(_recurrent(nn_fn.lstm, layers=2, dropout=0.2), normal(3, 6, 5), classes(3, 3), F.cross_entropy),
    "gru": Training(_recurrent(nn_fn.gru, bidirectional=True), normal(3, 6, 5), classes(3, 3), F.cross_entropy),
    "rnn": Training(_recurrent(nn_fn.rnn), normal(2, 4, 5), classes(3, 2), F.cross_entropy),
}  # fmt: skip


def plain(state: Any) -> Any:
    """A state with the numbers of its random keys."""
    return tree.map(lambda x: random.key_data(x) if isinstance(x, random.PRNGKeyArray) else x, state)


def trained(training: Training, optimiser: Any, backend: str, steps: int = 3, **options: Any) -> Any:
    """What is left, and the losses, after some steps."""
    loss_scale = {"loss_scale": options.pop("loss_scale")} if "loss_scale" in options else {}
    step = nn_fn.train_step(nn_fn.supervised(training.model, training.loss), optimiser, backend=backend, **options)
    state = nn_fn.init_train_state(training.model, optimiser, random.key(3), **loss_scale)
    losses = []
    for _ in range(steps):
        state, values = step(state, (training.x, training.y))
        losses.append(values["loss"])
    return plain((state, losses))


@pytest.mark.parametrize("name", MODELS)
def test_loss_gradients_and_state(backend: str, name: str) -> None:
    training = MODELS[name]
    params, state = training.model.init(random.key(0))
    loss = nn_fn.supervised(training.model, training.loss)

    def f(params: Any, state: Any, x: Any, y: Any, key: Any) -> Any:
        return asgfn.value_and_grad(loss, has_aux=True)(params, state, (x, y), key)

    args = params, state, training.x, training.y, random.key(1)
    compiled = asgfn.jit(f, backend=backend).lower(*args).compile()
    assert compiled.host_nodes == []
    assert_same(plain(asgfn.jit(f, backend=backend)(*args)), plain(asgfn.jit(f, backend="numpy")(*args)), 1e-4, 1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_evaluation(backend: str, name: str) -> None:
    training = MODELS[name]
    params, state = training.model.init(random.key(0))

    def f(params: Any, state: Any, x: Any) -> Any:
        return training.model(params, state, x)[0] if state else training.model(params, x)

    args = params, state, training.x
    assert_same(asgfn.jit(f, backend=backend)(*args), asgfn.jit(f, backend="numpy")(*args), 1e-4, 1e-5)


# the step of Adam's kind is about the sign of a gradient at first, so that tiny ones matter: hence the large eps
OPTIMISERS = {
    "sgd": optimisers.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optimisers.adam(1e-2, eps=1e-2),
    "adamw": optimisers.chain(optimisers.clip_by_global_norm(0.5), optimisers.adamw(1e-2, eps=1e-2, weight_decay=0.1)),
    "rmsprop": optimisers.rmsprop(1e-2, eps=1e-2, momentum=0.5),
    "adagrad": optimisers.adagrad(0.1),
    "lamb": optimisers.lamb(1e-2, eps=1e-2),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_steps_of_optimisers(backend: str, name: str) -> None:
    # the bias before a batch norm has no gradient but rounding errors, which LAMB scales up
    for model in ("regression", "gpt") if name == "adamw" else ("regression",) if name == "lamb" else ("mlp",):
        compiled, with_numpy = (trained(MODELS[model], OPTIMISERS[name], each) for each in (backend, "numpy"))
        assert_same(compiled, with_numpy, 1e-3, 1e-4)


@pytest.mark.parametrize("compute", ["float16", "bfloat16"])
def test_mixed_precision(backend: str, compute: str) -> None:
    options: dict[str, Any] = {"policy": policy(f"params=float32,compute={compute},output=float32")}
    if compute == "float16":
        options["loss_scale"] = DynamicLossScale(2.0**8)
    compiled, with_numpy = (
        trained(MODELS["mlp"], OPTIMISERS["sgd"], each, steps=2, **options) for each in (backend, "numpy")
    )
    assert_same(compiled, with_numpy, 3e-2, 3e-2)


def test_padding_masks_and_cached_decoding(backend: str) -> None:
    model = nn_fn.transformer_encoder_block(8, 2, 16, causal=True)
    params, _ = model.init(random.key(0))
    x, lengths = normal(3, 6, 8), np.array([6, 2, 4], np.int32)

    def masked(params: Any, x: Any, lengths: Any) -> Any:
        return model(params, x, mask=nn_fn.padding_mask(lengths, 6))

    assert_same(
        asgfn.jit(masked, backend=backend)(params, x, lengths),
        asgfn.jit(masked, backend="numpy")(params, x, lengths),
        1e-4,
        1e-5,
    )
    language = _language_model()
    params, _ = language.init(random.key(0))

    def decode(params: Any, tokens: Any) -> Any:
        cache = language.init_cache(2, 6)

        def step(cache: Any, token: Any) -> Any:
            logits, cache = language(params, cache, token[:, None])
            return cache, logits[:, 0]

        return asgfn.lax.scan(step, cache, tokens.T)[1]

    tokens = classes(11, 2, 6)
    assert_same(
        asgfn.jit(decode, backend=backend)(params, tokens),
        asgfn.jit(decode, backend="numpy")(params, tokens),
        1e-4,
        1e-5,
    )
