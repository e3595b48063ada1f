"""Layers with copied weights, against PyTorch's modules: values, gradients by input and weights, and new state."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.references import Case, normal, numbers

CASES: list[Case] = []


def _module(module: Any, **weights: Any) -> Any:
    """Calls a PyTorch module with these parameters and buffers in place of its own."""
    import torch

    module = module.double()

    def call(*args: Any, **kwargs: Any) -> Any:
        return torch.func.functional_call(module, weights, args, kwargs)

    return call


def _add(name: str, inputs: dict, ours: Any, theirs: Any, **options: Any) -> None:
    CASES.append(Case(name, inputs, ours, theirs, **options))


def _linear() -> None:
    for shape, bias in (((5, 4), True), ((2, 3, 4), False), ((4,), True), ((0, 4), True)):
        name = f"linear {shape} bias={bias}"
        inputs = {"x": normal(name, *shape), "weight": normal(name + "w", 4, 3)}
        if bias:
            inputs["bias"] = normal(name + "b", 3)

        def ours(F: Any, x: Any, bias_given: bool = bias, **params: Any) -> Any:
            import nn_fn

            return nn_fn.linear(4, 3, bias=bias_given)(params, x)

        def theirs(F: Any, x: Any, weight: Any, bias: Any = None, bias_given: bool = bias) -> Any:
            import torch

            more = {} if bias is None else {"bias": bias}
            return _module(torch.nn.Linear(4, 3, bias=bias_given), weight=weight.T, **more)(x)

        _add(name, inputs, ours, theirs)


CONVOLUTIONS = [
    # layer, dims, in, out, window, arguments
    ("conv1d", 1, 4, 6, 3, {"stride": 2, "padding": 1}),
    ("conv2d", 2, 4, 6, 3, {"padding": "same"}),
    ("conv2d", 2, 4, 4, (3, 2), {"groups": 4, "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}),
    ("conv2d", 2, 3, 5, 1, {"bias": False}),
    ("conv3d", 3, 2, 3, 2, {"padding": 1}),
    ("conv_transpose1d", 1, 4, 6, 3, {"stride": 2, "output_padding": 1}),
    ("conv_transpose2d", 2, 4, 6, 3, {"stride": 2, "padding": 1, "output_padding": 1}),
    ("conv_transpose2d", 2, 4, 4, (2, 3), {"groups": 2, "dilation": 2, "bias": False}),
    ("conv_transpose3d", 3, 2, 3, 2, {"stride": 2}),
]
MODULES = {
    "conv1d": "Conv1d", "conv2d": "Conv2d", "conv3d": "Conv3d",
    "conv_transpose1d": "ConvTranspose1d", "conv_transpose2d": "ConvTranspose2d", "conv_transpose3d": "ConvTranspose3d",
}  # fmt: skip


def _convolution() -> None:
    for layer, dims, inputs_, outputs, window, arguments in CONVOLUTIONS:
        name = f"{layer} {inputs_}->{outputs} {window} {arguments}"
        groups, transposed = arguments.get("groups", 1), "transpose" in layer
        sizes = (window,) * dims if isinstance(window, int) else window
        first, second = (inputs_, outputs // groups) if transposed else (outputs, inputs_ // groups)
        inputs = {
            "x": normal(name, 2, inputs_, *(7, 6, 5)[:dims]),
            "weight": normal(name + "w", first, second, *sizes),
        }
        if arguments.get("bias", True):
            inputs["bias"] = normal(name + "b", outputs)
        build = (inputs_, outputs, window)

        def ours(
            F: Any, x: Any, *, layer: str = layer, build: Any = build, options: Any = arguments, **params: Any
        ) -> Any:
            from nn_fn import layers

            return getattr(layers, layer)(*build, **options)(params, x)

        def theirs(
            F: Any, x: Any, *, layer: str = layer, build: Any = build, options: Any = arguments, **params: Any
        ) -> Any:
            import torch

            return _module(getattr(torch.nn, MODULES[layer])(*build, **options), **params)(x)

        _add(name, inputs, ours, theirs)


NORMS = [
    # layer, module, arguments, shape, trained
    ("batch_norm", "BatchNorm1d", (5,), {}, (4, 5), True),
    ("batch_norm", "BatchNorm1d", (5,), {}, (4, 5, 3), True),
    ("batch_norm", "BatchNorm2d", (5,), {"momentum": 0.3, "eps": 1e-3}, (4, 5, 3, 2), True),
    ("batch_norm", "BatchNorm2d", (5,), {}, (4, 5, 3, 2), False),
    ("batch_norm", "BatchNorm2d", (5,), {"affine": False}, (4, 5, 3, 2), True),
    ("batch_norm", "BatchNorm3d", (2,), {"track_running_stats": False}, (2, 2, 3, 2, 2), False),
    ("instance_norm", "InstanceNorm2d", (3,), {}, (2, 3, 4, 5), True),
    ("instance_norm", "InstanceNorm2d", (3,), {"affine": True, "track_running_stats": True}, (2, 3, 4, 5), True),
    ("instance_norm", "InstanceNorm1d", (3,), {"affine": True, "track_running_stats": True}, (2, 3, 4), False),
    ("layer_norm", "LayerNorm", (6,), {}, (3, 4, 6), True),
    ("layer_norm", "LayerNorm", ((4, 6),), {"eps": 1e-2}, (3, 4, 6), True),
    ("layer_norm", "LayerNorm", (6,), {"bias": False}, (6,), True),
    ("rms_norm", "RMSNorm", (6,), {}, (3, 6), True),
    ("rms_norm", "RMSNorm", (6,), {"eps": 0.1}, (3, 6), True),
    ("group_norm", "GroupNorm", (2, 6), {}, (3, 6, 4, 2), True),
    ("group_norm", "GroupNorm", (3, 6), {"affine": False}, (3, 6), True),
]


def _norms() -> None:
    for layer, module, build, arguments, shape, trained in NORMS:
        name = f"{layer} {build} {arguments} {shape} train={trained}"
        affine = arguments.get("affine", layer != "instance_norm")
        tracks = arguments.get("track_running_stats", layer == "batch_norm") and layer in (
            "batch_norm",
            "instance_norm",
        )
        size = build[-1] if isinstance(build[-1], tuple) else (build[-1],)
        inputs = {"x": normal(name, *shape) * 2 + 1}
        if affine:
            inputs["weight"] = normal(name + "w", *size)
            if layer != "rms_norm" and arguments.get("bias", True):
                inputs["bias"] = normal(name + "b", *size)
        if tracks:
            inputs["mean"] = normal(name + "m", *size)
            inputs["var"] = numbers(name + "v").uniform(0.5, 2, size)
        settings = (build, arguments, trained)

        def ours(F: Any, x: Any, *, layer: str = layer, settings: Any = settings, **arrays: Any) -> Any:
            from nn_fn import layers

            build, arguments, trained = settings
            state = {k: arrays.pop(k) for k in ("mean", "var") if k in arrays}
            y, state = getattr(layers, layer)(*build, **arguments)(arrays, state, x, train=trained)
            return [y, *(state[k] for k in ("mean", "var") if k in state)]

        def theirs(F: Any, x: Any, *, module: str = module, settings: Any = settings, **arrays: Any) -> Any:
            import torch

            build, arguments, trained = settings
            made = getattr(torch.nn, module)(*build, **arguments).double().train(trained)
            buffers = {f"running_{k}": arrays.pop(k).clone() for k in ("mean", "var") if k in arrays}
            # functional_call updates the buffers that it is given in place
            y = torch.func.functional_call(made, {**arrays, **buffers}, (x,))
            return [y, *buffers.values()]

        _add(name, inputs, ours, theirs, constant=("mean", "var"))


def _others() -> None:
    import functools

    def layer_call(F: Any, x: Any, *, make: str, build: Any, options: Any, **params: Any) -> Any:
        from nn_fn import layers

        return getattr(layers, make)(*build, **options)(params, x)

    def module_call(F: Any, x: Any, *, make: str, build: Any, options: Any, **params: Any) -> Any:
        import torch

        return _module(getattr(torch.nn, make)(*build, **options), **params)(x)

    def pair(
        name: str, ours: str, theirs: str, x: np.ndarray, build: tuple, options: dict | None = None, **weights: Any
    ):
        shared = {"build": build, "options": options or {}}
        _add(
            name,
            {"x": x, **weights},
            functools.partial(layer_call, make=ours, **shared),
            functools.partial(module_call, make=theirs, **shared),
        )

    for dims, sizes in ((1, (9,)), (2, (8, 9)), (3, (5, 4, 6))):
        x = normal(f"pool {dims}", 2, 3, *sizes)
        pair(f"max_pool{dims}d", f"max_pool{dims}d", f"MaxPool{dims}d", x, (3,), {"stride": 2, "padding": 1})
        pair(f"max_pool{dims}d ceil", f"max_pool{dims}d", f"MaxPool{dims}d", x, (2,), {"ceil_mode": True})
        pair(f"avg_pool{dims}d", f"avg_pool{dims}d", f"AvgPool{dims}d", x, (3,), {"stride": 2, "padding": 1})
        options = {"padding": 1, "count_include_pad": False, "ceil_mode": True}
        pair(f"avg_pool{dims}d uncounted", f"avg_pool{dims}d", f"AvgPool{dims}d", x, (2,), options)
        for out in (1, 3):
            pair(f"adaptive_avg_pool{dims}d {out}", f"adaptive_avg_pool{dims}d", f"AdaptiveAvgPool{dims}d", x, (out,))
            pair(f"adaptive_max_pool{dims}d {out}", f"adaptive_max_pool{dims}d", f"AdaptiveMaxPool{dims}d", x, (out,))
    indices = numbers("embedding").randint(0, 7, (3, 4))
    weight = normal("table", 7, 5)
    pair("embedding", "embedding", "Embedding", indices, (7, 5), weight=weight)
    pair("embedding padded", "embedding", "Embedding", indices, (7, 5), {"padding_idx": -5}, weight=weight)
    for mode in ("sum", "mean", "max"):
        pair(f"embedding_bag {mode}", "embedding_bag", "EmbeddingBag", indices, (7, 5), {"mode": mode}, weight=weight)
    x = normal("shape", 2, 8, 3, 2)
    pair("flatten", "flatten", "Flatten", x, ())
    pair("flatten some", "flatten", "Flatten", x, (1, 2))
    pair("unflatten", "unflatten", "Unflatten", x, (1, (2, -1)))
    pair("pixel_shuffle", "pixel_shuffle", "PixelShuffle", x, (2,))
    pair("upsample", "upsample", "Upsample", x, (), {"scale_factor": 2})
    pair("upsample bilinear", "upsample", "Upsample", x, (), {"size": (5, 7), "mode": "bilinear"})
    pair("local_response_norm", "local_response_norm", "LocalResponseNorm", x, (3,), {"alpha": 0.3})


_linear()
_convolution()
_norms()
_others()
