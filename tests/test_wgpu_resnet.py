"""A small residual network on the software GPU: training steps and inference equal NumPy's, with few passes over memory."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
import nn_fn
from asgfn.transforms.fuse import fuse_graph
from backends.kernels.schedules import contraction
from benchmarks.gpu_resnet import MOMENTUM, RATE, Sizes, resnet, training_step
from tests.software_gpu import gpu_fixture as gpu_fixture

SIZES = Sizes(2, 32, 5, (2, 1), (16, 20))


@pytest.fixture(autouse=True)
def kernels_in_another_order(monkeypatch):
    """Small convolutions are computed as large ones are."""
    monkeypatch.setattr(contraction, "PACKED_USES", 1)


def close(found, expected, tolerance):
    for (path, x), (_, y) in zip(
        asgfn.tree.leaves_with_path(found), asgfn.tree.leaves_with_path(expected), strict=True
    ):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        # gradients of what a normalisation follows are differences of larger numbers
        assert np.max(np.abs(x - y)) <= tolerance * max(np.max(np.abs(y)), 0.05), path


def run(backend, steps):
    step, state = training_step(SIZES, backend=backend)
    batch = tuple(map(jnp.asarray, SIZES.data()))
    losses = []
    for _ in range(steps):
        state, values = step(state, batch)
        losses.append(float(values["loss"]))
    return asgfn.tree.map(np.asarray, (state.params, state.model_state, state.opt_state)), losses


def test_training_steps(gpu):
    """Two steps of SGD with momentum: parameters, running statistics, momentum and losses."""
    expected, expected_losses = run("numpy", 2)
    found, losses = run("wgpu", 2)
    close(found, expected, 2e-4)
    close(losses, expected_losses, 1e-5)
    assert losses[0] != losses[1]


def test_gradients(gpu):
    """Value and gradient, of the images too."""
    model = resnet(SIZES)
    params, state = model.init(asgfn.random.key(1))
    images, labels = map(jnp.asarray, SIZES.data())

    def loss(params, images):
        prediction, new = model(params, state, images, train=True)
        return nn_fn.functional.cross_entropy(prediction, labels), new

    f = asgfn.value_and_grad(loss, (0, 1), has_aux=True)
    expected = asgfn.jit(f, backend="numpy")(params, images)
    close(asgfn.jit(f, backend="wgpu")(params, images), expected, 1e-4)


def test_inference(gpu):
    model = resnet(SIZES)
    params, state = model.init(asgfn.random.key(2))
    images = jnp.asarray(SIZES.data()[0])
    f = lambda params, state, images: model(params, state, images)[0]
    compiled = asgfn.jit(f, backend="wgpu").lower(params, state, images).compile()
    close(compiled(params, state, images), f(params, state, images), 1e-5)
    # normalisation, residual and activation are done where a convolution stores its result
    assert {k.kind for k in compiled.kernels} == {"contraction", "reduction", "reduce_window_max"}
    assert sum(k.kind == "reduction" for k in compiled.kernels) == 1
    assert compiled.host_nodes == []


def test_depthwise_blocks(gpu):
    """The block of a MobileNet: forward, and all gradients."""
    block = nn_fn.sequential(
        nn_fn.conv2d(8, 24, 1, bias=False), nn_fn.batch_norm(24), nn_fn.activation("relu6"),
        nn_fn.conv2d(24, 24, 3, 2, 1, groups=24, bias=False), nn_fn.batch_norm(24), nn_fn.activation("relu6"),
        nn_fn.conv2d(24, 12, 1, bias=False), nn_fn.batch_norm(12),
    )  # fmt: skip
    params, state = block.init(asgfn.random.key(3))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 14, 13)).astype(np.float32))

    def loss(params, x):
        y, _ = block(params, state, x, train=True)
        return jnp.sum(y * jnp.cos(jnp.arange(y.size).reshape(y.shape)))

    f = asgfn.value_and_grad(loss, (0, 1))
    close(asgfn.jit(f, backend="wgpu")(params, x), asgfn.jit(f, backend="numpy")(params, x), 2e-4)


# ---------------------------------------------------------------------------------------------- what goes through memory
def regions_of_a_step(sizes):
    model, optimiser = resnet(sizes), nn_fn.sgd(RATE, momentum=MOMENTUM)
    state = asgfn.eval_shape(lambda key: nn_fn.init_train_state(model, optimiser, key), asgfn.random.key(0))
    batch = tuple(asgfn.ShapeDtypeStruct(x.shape, x.dtype) for x in sizes.data())
    step = nn_fn.train_step(nn_fn.supervised(model, nn_fn.functional.cross_entropy), optimiser, jit=False)
    return fuse_graph(asgfn.trace(step)(state, batch))


def test_normalisation_stores_one_array():
    """Forward and backward, what a normalisation and the activation after it make is one array each: masks, deviations and
    normalised values are computed again where they are needed."""
    fused = regions_of_a_step(Sizes(8, 64, 10, (2, 1), (16, 16)))
    made = [
        sum(t.ndim == 4 and t.size > 8 * 16 and t.dtype != bool for t in node.out_types)
        for node in fused.nodes
        if node.params.get("kind") == "reduction"
    ]
    masks = [t for node in fused.nodes for t in node.out_types if t.dtype == bool and t.size > 8 * 16]
    assert len(masks) <= 1  # that of the last block, whose result only a mean reads
    forward, backward = 1 + 2 * 3, 1 + 2 * 3  # body and shortcut of the block that changes the size are one kernel
    large = [n for n in made if n]
    assert large[:forward] == [1] * forward
    # first of all in the backward pass: the gradients of the last block's body and shortcut
    assert len(large) == forward + backward and sum(large[forward:]) == backward + 1


def test_sums_of_a_normalisations_gradient_are_found_together():
    """The gradients of weight, bias, mean and variance go through memory at the same time, in one kernel."""
    x = asgfn.ShapeDtypeStruct((4, 128, 16, 16), np.float32)
    vector = asgfn.ShapeDtypeStruct((128,), np.float32)

    def loss(x, weight, bias):
        return jnp.sum(jnp.sin(nn_fn.functional.batch_norm(x, None, None, weight, bias, True)))

    fused = fuse_graph(asgfn.trace(asgfn.grad(loss, (0, 1, 2)))(x, vector, vector))
    assert [node.params["kind"] for node in fused.nodes] == ["reduction"]
