"""Recurrent layers and cells with PyTorch's weights, as PyTorch computes them."""

from __future__ import annotations

from typing import Any

from tests.references import Case, normal, numbers
from tests.references.layers_attention import torch_module, weights

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
TORCH = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"}


def _shapes(kind: str, width: int, units: int, layers: int, both: bool, bias: bool) -> dict[str, tuple[int, ...]]:
    rows = GATES[kind] * units
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        for ending in ("", "_reverse")[: 1 + both]:
            inputs = width if layer == 0 else units * (1 + both)
            shapes |= {f"weight_ih_l{layer}{ending}": (rows, inputs), f"weight_hh_l{layer}{ending}": (rows, units)}
            if bias:
                shapes |= {f"bias_ih_l{layer}{ending}": (rows,), f"bias_hh_l{layer}{ending}": (rows,)}
    return shapes


def params_of(w: dict[str, Any]) -> dict[str, Any]:
    """Our parameters from PyTorch's weights."""
    return {name: value.T if name.startswith("weight") else value for name, value in w.items()}


# batch, time, in, hidden, layers, both directions, bias, initial state, lengths, scale of x
VARIANTS: list[tuple[tuple[int, ...], int, int, int, int, bool, bool, bool, bool, float]] = [
    ((2,), 5, 3, 4, 1, False, True, False, False, 1.0),
    ((3,), 4, 2, 3, 2, True, True, True, False, 1.0),
    ((), 4, 3, 2, 3, False, False, True, False, 1.0),
    ((3,), 5, 3, 2, 2, True, True, True, True, 1.0),
    ((1,), 1, 1, 1, 1, True, True, False, False, 1.0),
    ((2,), 3, 2, 3, 1, False, True, True, False, 100.0),
]


def _layers() -> list[Case]:
    from nn_fn import layers as L

    cases = []
    for kind in ("rnn", "gru", "lstm"):
        for batch, time, width, units, count, both, bias, initial, packed, scale in VARIANTS:
            for options in [{"nonlinearity": "tanh"}, {"nonlinearity": "relu"}] if kind == "rnn" else [{}]:
                if scale > 1 and options.get("nonlinearity") == "relu":
                    continue
                label = (
                    f"{kind} {batch} {time} {width} {units} {count} {both} {bias} {initial} {packed} {scale} {options}"
                )
                inputs = {"x": normal(label, *batch, time, width, scale=scale)}
                inputs |= weights(label, _shapes(kind, width, units, count, both, bias))
                if initial:
                    shape = (count * (1 + both), *batch, units)
                    inputs |= {n: normal(label + n, *shape) for n in (("h", "c") if kind == "lstm" else ("h",))}
                lengths = numbers(label + "lengths").randint(1, time + 1, batch) if packed else None
                if lengths is not None:
                    lengths[0] = time  # PyTorch's result is as long as the longest
                layer = getattr(L, kind)(width, units, count, bias=bias, bidirectional=both, **options)
                module = torch_module(
                    lambda torch, kind=kind: getattr(torch.nn, TORCH[kind]),
                    width,
                    units,
                    count,
                    bias=bias,
                    bidirectional=both,
                    batch_first=True,
                    **options,
                )
                cases.append(
                    Case(label, inputs, _ours(layer, lengths, units, count * (1 + both)), _theirs(module, lengths))
                )
    return cases


def _ours(layer: Any, lengths: Any, units: int, rows: int) -> Any:
    def ours(F: Any, x: Any, h: Any = None, c: Any = None, **w: Any) -> Any:
        import asgfn.numpy as jnp

        zeros = jnp.zeros((rows, *x.shape[:-2], units), x.dtype)
        kept = (zeros, zeros) if layer.kind == "lstm" else zeros
        y, state = layer(params_of(w), {"hidden": kept}, x, hidden=h if c is None else (h, c), lengths=lengths)
        final = state["hidden"]
        return (y, *final) if isinstance(final, tuple) else (y, final)

    return ours


def _theirs(module: Any, lengths: Any) -> Any:
    def theirs(F: Any, x: Any, h: Any = None, c: Any = None, **w: Any) -> Any:
        from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

        if lengths is not None:
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, final = module(w, x, h if c is None else (h, c))
        if lengths is not None:
            y = pad_packed_sequence(y, batch_first=True)[0]
        return (y, *final) if isinstance(final, tuple) else (y, final)

    return theirs


def _cells() -> list[Case]:
    cases = []
    for kind in ("rnn", "gru", "lstm"):
        for leading, bias in (((3,), True), ((), False)):
            for options in [{}, {"nonlinearity": "relu"}] if kind == "rnn" else [{}]:
                label = f"{kind}_cell {leading} {bias} {options}"
                rows = GATES[kind] * 4
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, 2), "weight_hh": (rows, 4)}
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
                inputs = {"x": normal(label, *leading, 2), "h": normal(label + "h", *leading, 4)}
                if kind == "lstm":
                    inputs["c"] = normal(label + "c", *leading, 4)
                module = torch_module(
                    lambda torch, kind=kind: getattr(torch.nn, TORCH[kind] + "Cell"), 2, 4, bias=bias, **options
                )

                def ours(
                    F: Any, x: Any, h: Any, c: Any = None, kind: str = kind, options: Any = options, **w: Any
                ) -> Any:
                    cell = getattr(F, f"{kind}_cell")
                    return cell(x, h if c is None else (h, c), **params_of(w), **options)

                def theirs(F: Any, x: Any, h: Any, c: Any = None, module: Any = module, **w: Any) -> Any:
                    return module(w, x, h if c is None else (h, c))

                cases.append(Case(label, inputs | weights(label, shapes), ours, theirs))
    return cases


CASES = [*_layers(), *_cells()]
