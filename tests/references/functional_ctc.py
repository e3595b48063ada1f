"""`torch.nn.functional.ctc_loss`: cases for `nn_fn.functional`.

The input are scores, of which both sides take `log_softmax`: PyTorch's gradient in log_probs is not that of the
formula, but becomes it behind a `log_softmax`.
"""

from __future__ import annotations

import numpy as np

from tests.references import Case, normal, numbers

CASES: list[Case] = []
REDUCTIONS = ("none", "mean", "sum")


def case(name, scores, targets, input_lengths, target_lengths, reductions=REDUCTIONS, gradients=True, **options):
    def ours(F, scores, targets, input_lengths, target_lengths):
        log_p = F.log_softmax(scores, axis=-1)
        return [F.ctc_loss(log_p, targets, input_lengths, target_lengths, reduction=r, **options) for r in reductions]

    def theirs(F, scores, targets, input_lengths, target_lengths):
        log_p = F.log_softmax(scores, dim=-1)
        return [F.ctc_loss(log_p, targets, input_lengths, target_lengths, reduction=r, **options) for r in reductions]

    inputs = {
        "scores": scores,
        "targets": np.asarray(targets),
        "input_lengths": np.asarray(input_lengths),
        "target_lengths": np.asarray(target_lengths),
    }
    CASES.append(Case(name, inputs, ours, theirs, gradients=gradients))


def symbols(name: str, classes: int, *shape: int) -> np.ndarray:
    return numbers(name).randint(1, classes, shape)


case("one", normal("one", 5, 1, 3), symbols("one", 3, 1, 2), [5], [2])
for steps, batch, classes, length in [(6, 3, 4, 2), (12, 2, 5, 4), (9, 4, 2, 3)]:
    name = f"{steps} steps, {batch} sequences, {classes} classes, {length} symbols"
    scores = normal(name, steps, batch, classes, scale=1.5)
    targets = symbols(name, classes, batch, length)
    case(f"{name}", scores, targets, [steps] * batch, [length] * batch)
    shorter = np.arange(batch) % (length + 1)
    case(f"{name}, ragged targets", scores, targets, [steps] * batch, shorter)
    inputs = steps - np.arange(batch) % 3
    case(f"{name}, ragged", scores, targets, inputs, shorter)
    concatenated = np.concatenate([t[:n] for t, n in zip(targets, shorter, strict=True)])
    case(f"{name}, concatenated", scores, concatenated, inputs, shorter)

case("repeated symbols", normal("repeated", 9, 2, 4), [[1, 1, 2, 2], [3, 3, 3, 3]], [9, 8], [4, 4])
case("just long enough", normal("just", 5, 2, 4), [[1, 1, 2], [3, 2, 1]], [4, 3], [3, 3])
case("last blank", normal("last", 7, 2, 4), [[0, 1, 1], [2, 0, 2]], [7, 7], [3, 2], blank=3)
case("middle blank", normal("middle", 7, 2, 4), [[0, 2], [3, 3]], [7, 6], [2, 2], blank=1)
case("no symbols", normal("no symbols", 4, 2, 3), [[1], [1]], [4, 3], [0, 0])
case("without batch", normal("without batch", 6, 4), [1, 3, 3], 6, 3)
case("padding that is no class", normal("padding", 6, 2, 4), [[1, 2, 99], [3, 99, 99]], [6, 6], [2, 1])
case("huge scores", normal("huge", 8, 2, 4, scale=1e4), [[1, 2], [3, 3]], [8, 8], [2, 2])

too_short = {"targets": [[1, 1, 2], [3, 2, 1]], "input_lengths": [3, 5], "target_lengths": [3, 3]}
case("too short", normal("too short", 5, 2, 4), **too_short, gradients=False)
case("too short, zero", normal("too short", 5, 2, 4), **too_short, zero_infinity=True)
case("all too short, zero", normal("too short", 5, 2, 4), [[1, 1, 2], [3, 2, 1]], [3, 2], [3, 3], zero_infinity=True)
