"""Losses of `torch.nn.functional`: cases for `nn_fn.functional`."""

from __future__ import annotations

import functools

import numpy as np

from tests.references import Case, normal, numbers

CASES: list[Case] = []
REDUCTIONS = ("none", "mean", "sum")


def case(name, inputs, ours, theirs=None, **options):
    CASES.append(Case(name, inputs, ours, theirs, **options))


def call(function, *args, reductions=None, **options):
    """A call with the inputs in their order; those named in `args` go by keyword. With reductions, one call of each."""

    def run(F, **inputs):
        by_keyword = {k: inputs.pop(k) for k in args if k in inputs}
        if reductions is None:
            return getattr(F, function)(*inputs.values(), **by_keyword, **options)
        return [getattr(F, function)(*inputs.values(), **by_keyword, **options, reduction=r) for r in reductions]

    return run


def each_reduction(name, function, inputs, *args, constant=(), float32_tol=2e-5, reductions=REDUCTIONS, **options):
    """A case with the loss in all reductions, whose gradient is that of a weighted sum of them."""
    run = call(function, *args, reductions=reductions, **options)
    case(name, inputs, run, constant=constant, float32_tol=float32_tol)


def uniform(name: str, *shape: int) -> np.ndarray:
    return numbers(name).uniform(0.05, 0.95, shape)


def signs(name: str, *shape: int) -> np.ndarray:
    return numbers(name).choice([-1.0, 1.0], shape)


def classes(name: str, count: int, *shape: int) -> np.ndarray:
    return numbers(name).randint(0, count, shape)


# ------------------------------------------------------------------------------------------------ regression
SHAPES = [(5,), (3, 4), (2, 3, 2), ()]
for shape in SHAPES:
    pair = {"input": normal(f"input {shape}", *shape, scale=2.0), "target": normal(f"target {shape}", *shape)}
    for function, options in [
        ("mse_loss", {}),
        ("l1_loss", {}),
        ("smooth_l1_loss", {}),
        ("smooth_l1_loss", {"beta": 0.3}),
        ("smooth_l1_loss", {"beta": 0.0}),
        ("huber_loss", {}),
        ("huber_loss", {"delta": 2.5}),
    ]:
        each_reduction(f"{function} {options} {shape}", function, pair, **options)
    weighted = {**pair, "weight": uniform(f"weight {shape}", *shape)}
    for function in ("mse_loss", "l1_loss", "huber_loss"):
        each_reduction(f"{function} weighted {shape}", function, weighted, "weight")

ends = {"input": np.array([1e4, -1e4, 0.0, 1.0, 0.5, 2.0]), "target": np.array([-1e4, 0.0, 0.0, 0.0, 0.0, 1.0])}
for function in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
    each_reduction(f"{function} far, equal and at the bend", function, ends)

for variances in [(3, 4), (3, 1), (1, 4), (3,)]:
    name = f"gaussian_nll {variances}"
    var = numbers(name).uniform(0.1, 3.0, variances)
    inputs = {"input": normal(name + " input", 3, 4), "target": normal(name + " target", 3, 4), "var": var}
    for full in (False, True):
        each_reduction(f"{name} full={full}", "gaussian_nll_loss", inputs, full=full)
small = {"input": np.array([0.1, 1.0, -2.0]), "target": np.zeros(3), "var": np.array([0.0, 1e-4, 2.0])}
each_reduction("gaussian_nll small variances", "gaussian_nll_loss", small, eps=1e-2)

for log_input in (True, False):
    for full in (False, True):
        name = f"poisson_nll log_input={log_input} full={full}"
        rates = normal(name, 3, 4) if log_input else numbers(name).uniform(0.1, 4.0, (3, 4))
        inputs = {"input": rates, "target": numbers(name + " target").randint(1, 7, (3, 4)) * 1.0}
        each_reduction(name, "poisson_nll_loss", inputs, log_input=log_input, full=full)
case(
    "poisson_nll of rate zero",
    {"input": np.zeros(3), "target": np.array([0.0, 1.0, 5.0])},
    call("poisson_nll_loss", log_input=False, reduction="none"),
)

# ------------------------------------------------------------------------------------------------ classes
LAYOUTS = [
    ((5, 3), (5,)),
    ((2, 4, 3), (2, 3)),
    ((2, 3, 2, 2), (2, 2, 2)),
    ((4,), ()),
    ((1, 1), (1,)),
    ((2, 3, 0), (2, 0)),
]
for shape, places in LAYOUTS:
    count = shape[1] if len(shape) > 1 else shape[0]
    base = f"{shape}"
    scores, target = normal(f"scores {base}", *shape, scale=2.0), classes(f"classes {base}", count, *places)
    weight = uniform(f"class weights {base}", count)
    probabilities = numbers(f"probabilities {base}").dirichlet(np.ones(count), places)
    probabilities = np.moveaxis(probabilities, -1, 1 if places else 0).reshape(shape)
    for smoothing in (0.0, 0.2, 1.0):
        options = {"label_smoothing": smoothing}
        name = f"cross_entropy {base} smoothing={smoothing}"
        each_reduction(name, "cross_entropy", {"input": scores, "target": target}, **options)
        each_reduction(
            f"{name} weight", "cross_entropy", {"input": scores, "target": target, "weight": weight}, "weight",
            constant=("weight",), **options,
        )  # fmt: skip
        given = {"input": scores, "target": probabilities}
        each_reduction(f"{name} probabilities", "cross_entropy", given, **options)
        each_reduction(
            f"{name} probabilities weight", "cross_entropy", {**given, "weight": weight}, "weight",
            constant=("weight",), **options,
        )  # fmt: skip
    log_p = scores - np.log(np.exp(scores).sum(1 if places else 0, keepdims=True))
    each_reduction(f"nll {base}", "nll_loss", {"input": log_p, "target": target})
    each_reduction(
        f"nll {base} weight", "nll_loss", {"input": log_p, "target": target, "weight": weight}, "weight",
        constant=("weight",),
    )  # fmt: skip

some = classes("some ignored", 4, 6)
some[[1, 4]] = 2
for ignore_index in (2, -100, -1):
    target = np.where(some == 2, ignore_index, some)
    for smoothing in (0.0, 0.3):
        inputs = {"input": normal("some ignored", 6, 4), "target": target, "weight": uniform("some ignored", 4)}
        options = {"ignore_index": ignore_index, "label_smoothing": smoothing, "constant": ("weight",)}
        name = f"cross_entropy ignore_index={ignore_index} smoothing={smoothing}"
        each_reduction(f"{name} weight", "cross_entropy", inputs, "weight", **options)
        del inputs["weight"]
        each_reduction(name, "cross_entropy", inputs, **options)
    each_reduction(f"nll ignore_index={ignore_index}", "nll_loss", inputs, ignore_index=ignore_index)
every = {"input": normal("all ignored", 3, 4), "target": np.full(3, -100)}
for reduction in REDUCTIONS:
    each_reduction(f"cross_entropy all ignored, {reduction}", "cross_entropy", every, reductions=[reduction])
    each_reduction(f"nll all ignored, {reduction}", "nll_loss", every, reductions=[reduction])
each_reduction(
    "cross_entropy without examples", "cross_entropy", {"input": np.zeros((0, 4)), "target": np.zeros(0, int)}
)

huge = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4 - 1.0, 0.0]])
each_reduction("cross_entropy huge scores", "cross_entropy", {"input": huge, "target": np.array([1, 0, 0])})
each_reduction("cross_entropy huge scores, right", "cross_entropy", {"input": huge, "target": np.array([0, 2, 1])})
certain = {"input": huge, "target": np.eye(3)}
each_reduction("cross_entropy huge scores, certain probabilities", "cross_entropy", certain)

# ------------------------------------------------------------------------------------------------ binary
for shape in [(5,), (3, 4), (2, 3, 2), ()]:
    p, target = uniform(f"p {shape}", *shape), uniform(f"p target {shape}", *shape)
    scores, weight = normal(f"binary {shape}", *shape, scale=3.0), uniform(f"binary weight {shape}", *shape)
    each_reduction(f"bce {shape}", "binary_cross_entropy", {"input": p, "target": target})
    each_reduction(
        f"bce {shape} weight", "binary_cross_entropy", {"input": p, "target": target, "weight": weight}, "weight",
        constant=("weight",),
    )  # fmt: skip
    given = {"input": scores, "target": target}
    function = "binary_cross_entropy_with_logits"
    each_reduction(f"bce logits {shape}", function, given)
    each_reduction(f"bce logits {shape} weight", function, {**given, "weight": weight}, "weight", constant=("weight",))
    each_reduction(
        f"bce logits {shape} pos_weight", function, {**given, "pos_weight": 3 * weight}, "pos_weight",
        constant=("pos_weight",),
    )  # fmt: skip
    given = {"input": scores, "target": signs(f"soft {shape}", *shape)}
    each_reduction(f"soft_margin {shape}", "soft_margin_loss", given, constant=("target",))
given = {"input": normal("labels", 3, 4), "target": (normal("labels target", 3, 4) > 0) * 1.0}
weights = {"weight": uniform("labels weight", 4), "pos_weight": 5 * uniform("labels pos_weight", 4)}
each_reduction(
    "bce logits, a weight a label", "binary_cross_entropy_with_logits", {**given, **weights}, "weight", "pos_weight",
    constant=tuple(weights),
)  # fmt: skip
each_reduction(
    "bce, a weight an example", "binary_cross_entropy",
    {"input": uniform("a weight", 3, 4), "target": given["target"], "weight": uniform("a weight an example", 3, 1)},
    "weight", constant=("weight",),
)  # fmt: skip
each_reduction("multilabel_soft_margin", "multilabel_soft_margin_loss", given)
each_reduction("multilabel_soft_margin vector", "multilabel_soft_margin_loss", {k: v[0] for k, v in given.items()})
each_reduction(
    "multilabel_soft_margin weight", "multilabel_soft_margin_loss", {**given, "weight": weights["weight"]}, "weight",
    constant=("weight",),
)  # fmt: skip

sure = {"input": np.array([0.0, 1.0, 0.0, 1.0, 0.5, 1.0]), "target": np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.5])}
# PyTorch's limit is 1e-12 in float32; its derivative by the target is infinite, ours that of the limited logarithm
run = call("binary_cross_entropy", reductions=REDUCTIONS)
case("bce of probabilities 0 and 1", sure, run, constant=("target",), tol=1e-8)
extreme = {"input": np.array([1e4, -1e4, 1e4, -1e4, 0.0, 40.0]), "target": np.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.5])}
each_reduction("bce logits of huge scores", "binary_cross_entropy_with_logits", extreme)
each_reduction("multilabel_soft_margin of huge scores", "multilabel_soft_margin_loss", extreme)


def torchvision_focal(F, input, target, alpha=0.25, gamma=2.0):
    """The formula of torchvision.ops.sigmoid_focal_loss."""
    p = input.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(input, target, reduction="none")
    p_t = p * target + (1 - p) * (1 - target)
    loss = cross_entropy * (1 - p_t) ** gamma
    if alpha >= 0:
        loss = (alpha * target + (1 - alpha) * (1 - target)) * loss
    return loss, loss.mean(), loss.sum()


for shape in [(5,), (3, 4), ()]:
    for name, options in {"": {}, " no alpha": {"alpha": -1}, " other": {"alpha": 0.6, "gamma": 1.5}}.items():
        given = {
            "input": normal(f"focal {shape}", *shape, scale=2.0),
            "target": (normal(f"focal target {shape}", *shape) > 0) * 1.0,
        }
        ours = call("sigmoid_focal_loss", reductions=REDUCTIONS, **options)
        theirs = functools.partial(torchvision_focal, **options)
        case(f"sigmoid_focal {shape}{name}", given, ours, theirs, constant=("target",))

# ------------------------------------------------------------------------------------------------ margins
for shape, places in [((5, 4), (5,)), ((4,), ()), ((3, 1), (3,))]:
    for p in (1, 2):
        for weighted in (False, True):
            name = f"multi_margin {shape} p={p} weight={weighted}"
            given = {"input": normal(name, *shape), "target": classes(name, shape[-1], *places)}
            if weighted:
                given["weight"] = uniform(name, shape[-1])
            each_reduction(name, "multi_margin_loss", given, "weight", p=p, margin=0.7, constant=("weight",))
labels = np.array([[3, 0, -1, 1], [-1, 0, 1, 2], [0, 1, 2, 3], [2, -1, -1, -1]])
each_reduction("multilabel_margin", "multilabel_margin_loss", {"input": normal("labels", 4, 4), "target": labels})
each_reduction("multilabel_margin vector", "multilabel_margin_loss", {"input": normal("v", 4), "target": labels[0]})

# ------------------------------------------------------------------------------------------------ divergence
for shape in [(4,), (3, 4), (2, 3, 2), ()]:
    p = np.exp(normal(f"kl target {shape}", *shape))
    log_q = normal(f"kl {shape}", *shape)
    for log_target in (False, True):
        given = {"input": log_q, "target": np.log(p) if log_target else p}
        each_reduction(
            f"kl_div {shape} log_target={log_target}", "kl_div", given, log_target=log_target,
            reductions=(*REDUCTIONS, "batchmean"),
        )  # fmt: skip
excluded = {"input": normal("kl excluded", 2, 3), "target": np.array([[0.0, 0.4, 0.6], [1.0, 0.0, 0.0]])}
each_reduction("kl_div of excluded outcomes", "kl_div", excluded, constant=("target",))

# ------------------------------------------------------------------------------------------------ ranking
for shape in [(5,), (3, 4)]:
    given = {"input1": normal(f"rank 1 {shape}", *shape), "input2": normal(f"rank 2 {shape}", *shape)}
    given["target"] = signs(f"rank {shape}", *shape)
    for margin in (0.0, 0.5):
        each_reduction(f"margin_ranking {shape} {margin}", "margin_ranking_loss", given, margin=margin)
        distances = {"input": np.abs(given["input1"]), "target": given["target"]}
        each_reduction(
            f"hinge_embedding {shape} {margin}", "hinge_embedding_loss", distances, margin=margin + 0.5,
            constant=("target",),
        )  # fmt: skip
tie = {"input1": np.ones(3), "input2": np.ones(3), "target": np.array([1.0, -1.0, 1.0])}
each_reduction("margin_ranking of ties", "margin_ranking_loss", tie)

for shape in [(6, 4), (4,), (3, 1)]:
    name = f"cosine_embedding {shape}"
    given = {"input1": normal(name + " 1", *shape), "input2": normal(name + " 2", *shape)}
    given["target"] = signs(name, *shape[:-1])
    for margin in (0.0, -0.4):
        if shape[-1] > 1:
            each_reduction(f"{name} {margin}", "cosine_embedding_loss", given, margin=margin, constant=("target",))
zero = {
    "input1": np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]]),
    "input2": np.array([[0.0, 0.0], [3.0, 4.0], [-2.0, 1.0]]),
    "target": np.array([1.0, -1.0, -1.0]),
}
each_reduction("cosine_embedding of zeros and right angles", "cosine_embedding_loss", zero, constant=("target",))

for shape in [(5, 3), (1, 4), (4,), (2, 3, 4)]:
    name = f"triplet {shape}"
    given = {k: normal(f"{name} {k}", *shape) for k in ("anchor", "positive", "negative")}
    for options in ({}, {"swap": True}, {"p": 1.0}, {"p": 3.0, "margin": 0.2}, {"eps": 0.1, "swap": True}):
        each_reduction(f"{name} {options}", "triplet_margin_loss", given, **options)
    for options in ({}, {"swap": True, "margin": 0.5}):
        each_reduction(f"{name} with distance {options}", "triplet_margin_with_distance_loss", given, **options)
equal = {k: np.ones((2, 3)) for k in ("anchor", "positive", "negative")}
each_reduction("triplet of equal vectors", "triplet_margin_loss", equal)
each_reduction("triplet of equal vectors without eps", "triplet_margin_loss", equal, eps=0.0)


def squared(x, y):
    return ((x - y) ** 2).sum(-1)


given = {k: normal(f"own distance {k}", 4, 3) for k in ("anchor", "positive", "negative")}
each_reduction("triplet own distance", "triplet_margin_with_distance_loss", given, distance_function=squared)

# ------------------------------------------------------------------------------------------------ no elements
for function in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits", "kl_div"):
    nothing = {"input": np.zeros((0, 3)), "target": np.zeros((0, 3))}
    each_reduction(f"{function} of nothing", function, nothing)
