"""Norms and distances of `torch.nn.functional`: cases for `nn_fn.functional`."""

from __future__ import annotations

import numpy as np

from tests.references import Case, normal, numbers

CASES: list[Case] = []


def case(name, inputs, ours, theirs=None, **options):
    CASES.append(Case(name, inputs, ours, theirs, **options))


def channel_vectors(name: str, channels: int) -> dict[str, np.ndarray]:
    return {"weight": normal(name + " weight", channels), "bias": normal(name + " bias", channels)}


def statistics(name: str, channels: int) -> dict[str, np.ndarray]:
    return {
        "mean": normal(name + " mean", channels),
        "var": numbers(name + " var").uniform(0.2, 3.0, channels),
    }


def with_statistics(function: str, **options):
    """Torch changes running statistics in place; as an output they must be copies that this call changes."""

    def theirs(F, x, mean, var, weight=None, bias=None):
        mean, var = mean.detach().clone(), var.detach().clone()
        y = getattr(F, function)(x, mean, var, weight, bias, **options)
        return y, mean, var

    def ours(F, x, mean, var, weight=None, bias=None):
        return getattr(F, function)(x, mean, var, weight, bias, **options)

    return ours, theirs


# ------------------------------------------------------------------------------------------------ batch and instance
for shape in [(4, 3), (5, 1), (2, 3, 7), (3, 4, 2, 5), (2, 2, 3, 2, 4), (1, 3, 6)]:
    name = f"batch_norm {shape}"
    x = {"x": normal(name, *shape, scale=2.0) + 1}
    train = lambda F, x, weight=None, bias=None: F.batch_norm(x, None, None, weight, bias, training=True)
    case(f"{name} plain", x, train)
    case(f"{name} affine", {**x, **channel_vectors(name, shape[1])}, train)
    for training in (True, False):
        inputs = {**x, **statistics(name, shape[1]), **channel_vectors(name, shape[1])}
        ours, theirs = with_statistics("batch_norm", training=training, momentum=0.3, eps=1e-3)
        case(f"{name} statistics, training={training}", inputs, ours, theirs, constant=("mean", "var"))

for shape in [(4, 3, 7), (3, 4, 2, 5), (1, 2, 3, 2, 4)]:
    name = f"instance_norm {shape}"
    x = {"x": normal(name, *shape, scale=2.0) + 1}
    case(f"{name} plain", x, lambda F, x: F.instance_norm(x))
    affine = {**x, **channel_vectors(name, shape[1])}
    case(f"{name} affine", affine, lambda F, x, weight, bias: F.instance_norm(x, None, None, weight, bias, eps=0.1))
    for own in (True, False):
        inputs = {**affine, **statistics(name, shape[1])}
        ours, theirs = with_statistics("instance_norm", use_input_stats=own, momentum=0.25)
        case(f"{name} statistics, use_input_stats={own}", inputs, ours, theirs, constant=("mean", "var"))

# ------------------------------------------------------------------------------------------------ layer, group, rms
for shape, normalized in [((4, 6), (6,)), ((2, 3, 5), (3, 5)), ((7,), (7,)), ((2, 1, 4, 3), (4, 3))]:
    name = f"layer_norm {shape} {normalized}"
    vectors = {"weight": normal(name + " weight", *normalized), "bias": normal(name + " bias", *normalized)}
    x = {"x": normal(name, *shape, scale=3.0) - 1}
    case(f"{name} plain", x, lambda F, x, n=normalized: F.layer_norm(x, n))
    case(
        f"{name} affine",
        {**x, **vectors},
        lambda F, x, weight, bias, n=normalized: F.layer_norm(x, n, weight, bias, eps=1e-3),
    )
    name = f"rms_norm {shape} {normalized}"
    case(f"{name} plain", x, lambda F, x, n=normalized: F.rms_norm(x, n))
    case(
        f"{name} weight",
        {**x, "weight": vectors["weight"]},
        lambda F, x, weight, n=normalized: F.rms_norm(x, n, weight, eps=1e-3),
    )

for shape, groups in [((2, 6), 2), ((3, 4, 5), 2), ((2, 6, 3, 2), 1), ((2, 4, 3, 3), 4), ((1, 4, 2, 2, 3), 2)]:
    name = f"group_norm {shape} {groups}"
    x = {"x": normal(name, *shape) + 2}
    case(f"{name} plain", x, lambda F, x, g=groups: F.group_norm(x, g))
    case(
        f"{name} affine",
        {**x, **channel_vectors(name, shape[1])},
        lambda F, x, weight, bias, g=groups: F.group_norm(x, g, weight, bias, eps=1e-2),
    )

# one number a row: the gradient is zero but for rounding, so x is added, to have something to compare
one = {"x": normal("one number a row", 2, 3, 1)}
case("layer_norm of one number", one, lambda F, x: F.layer_norm(x, (1,)) + x)
case("rms_norm of one number", one, lambda F, x: F.rms_norm(x, (1,), eps=1e-3) + x)
# constant rows: the variance is zero
case("layer_norm of equal numbers", {"x": np.full((3, 5), 7.0)}, lambda F, x: F.layer_norm(x, (5,)))
case("rms_norm of zeros", {"x": np.zeros((3, 5))}, lambda F, x: F.rms_norm(x, (5,), eps=1e-6))
case("batch_norm of zeros", {"x": np.zeros((3, 5))}, lambda F, x: F.batch_norm(x, None, None, training=True))
# no examples: PyTorch gives an empty result, and zero gradients of weight and bias
case(
    "layer_norm without rows",
    {"x": np.zeros((0, 5)), "weight": normal("no rows weight", 5), "bias": normal("no rows bias", 5)},
    lambda F, x, weight, bias: F.layer_norm(x, (5,), weight, bias),
)
case("group_norm without rows", {"x": np.zeros((0, 4, 3))}, lambda F, x: F.group_norm(x, 2))
ours, theirs = with_statistics("batch_norm", training=False)
case("batch_norm without rows", {"x": np.zeros((0, 4, 3)), **statistics("no rows", 4)}, ours, theirs, gradients=False)

# ------------------------------------------------------------------------------------------------ local response
for shape, size in [((2, 7, 4), 5), ((2, 5, 3, 3), 2), ((1, 3, 2, 2, 2), 1), ((2, 3, 4), 9)]:
    name = f"local_response_norm {shape} {size}"
    case(f"{name} defaults", {"x": normal(name, *shape)}, lambda F, x, s=size: F.local_response_norm(x, s))
    case(
        f"{name} strong",
        {"x": normal(name, *shape, scale=4.0)},
        lambda F, x, s=size: F.local_response_norm(x, s, alpha=0.5, beta=0.6, k=2.0),
    )


# ------------------------------------------------------------------------------------------------ lengths, distances
for p in (2.0, 1.0, 3.0, 0.5, float("inf")):
    for shape, axis in [((3, 4), 1), ((2, 3, 4), 1), ((5,), 0), ((2, 3), -1)]:
        name = f"normalize p={p} {shape} {axis}"
        case(
            name,
            {"x": normal(name, *shape)},
            lambda F, x, p=p, a=axis: F.normalize(x, p, a),
        )
case("normalize zeros", {"x": np.zeros((2, 3))}, lambda F, x: F.normalize(x))
case("normalize below eps", {"x": normal("below eps", 2, 3, scale=1e-3)}, lambda F, x: F.normalize(x, eps=0.1))

for shapes, axis in [
    (((3, 4), (3, 4)), 1),
    (((2, 3, 4), (2, 3, 4)), 1),
    (((5,), (5,)), 0),
    (((3, 1, 4), (1, 2, 4)), -1),
]:
    name = f"cosine_similarity {shapes} {axis}"
    case(
        name,
        {"x1": normal(name + " 1", *shapes[0]), "x2": normal(name + " 2", *shapes[1])},
        lambda F, x1, x2, a=axis: F.cosine_similarity(x1, x2, axis=a),
        lambda F, x1, x2, a=axis: F.cosine_similarity(x1, x2, dim=a),
    )
vector = normal("cosine of equal", 2, 4)
case(
    "cosine_similarity of equal and opposite vectors",
    {"x1": vector, "x2": vector * np.array([[2.0], [-4.0]])},
    lambda F, x1, x2: F.cosine_similarity(x1, x2) + x1[:, 0] * x2[:, 0],  # the first term has gradient zero
)
case(
    "cosine_similarity with zeros",
    {"x1": np.zeros((2, 4)), "x2": np.stack([normal("cosine with zeros", 4), np.zeros(4)])},
    lambda F, x1, x2: F.cosine_similarity(x1, x2),
)

for p in (2.0, 1.0, 3.0, float("inf")):
    for keep in (False, True):
        name = f"pairwise_distance p={p} keep={keep}"
        case(
            name,
            {"x1": normal(name + " 1", 3, 4), "x2": normal(name + " 2", 3, 4)},
            lambda F, x1, x2, p=p, k=keep: F.pairwise_distance(x1, x2, p=p, keepdims=k),
            lambda F, x1, x2, p=p, k=keep: F.pairwise_distance(x1, x2, p=p, keepdim=k),
        )
case(
    "pairwise_distance to one vector",
    {"x1": normal("to one 1", 3, 4), "x2": normal("to one 2", 4)},
    lambda F, x1, x2: F.pairwise_distance(x1, x2),
)
for eps in (1e-6, 0.0):
    case(
        f"pairwise_distance of equal vectors, eps={eps}",
        {"x1": np.ones((2, 3)), "x2": np.ones((2, 3))},
        lambda F, x1, x2, e=eps: F.pairwise_distance(x1, x2, eps=e),
    )
