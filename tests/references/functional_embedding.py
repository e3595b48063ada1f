"""Embeddings, bags of embeddings and one-hot vectors, as PyTorch computes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.references import Case, normal

INDICES = np.array([[0, 3, 3], [4, 0, 2]])
LIST = np.array([0, 3, 3, 4, 0, 2, 1, 3])


def _embeddings() -> list[Case]:
    weight = normal("weight", 5, 3)
    cases = []
    for padding_idx in (None, 0, 3, -1):
        for x in (INDICES, LIST, np.array(3), np.zeros((2, 0), np.int64)):
            call = lambda F, x, weight, padding_idx=padding_idx: F.embedding(x, weight, padding_idx)
            cases.append(Case(f"embedding {x.shape} {padding_idx}", {"x": x, "weight": weight}, call))
    return cases


def _bags() -> list[Case]:
    cases = []
    ties = np.round(normal("ties", 5, 3))
    for mode in ("sum", "mean", "max"):
        for padding_idx in (None, 3):
            options: dict[str, Any] = {"mode": mode, "padding_idx": padding_idx}
            call = lambda F, x, weight, options=options: F.embedding_bag(x, weight, **options)
            cases.append(Case(f"bag {options}", {"x": INDICES, "weight": normal("weight", 5, 3)}, call))
            cases.append(Case(f"bag ties {options}", {"x": INDICES, "weight": ties}, call))
            call = lambda F, x, weight, offsets, options=options: F.embedding_bag(x, weight, offsets, **options)
            for offsets in ([0, 2, 2, 5], [0], [0, 0, 8], [0, 1, 3, 3, 3, 7]):
                inputs = {"x": LIST, "weight": normal("weight", 5, 3), "offsets": np.array(offsets)}
                cases.append(Case(f"bag {offsets} {options}", inputs, call))
            call = lambda F, x, weight, offsets, options=options: F.embedding_bag(
                x, weight, offsets, include_last_offset=True, **options
            )
            inputs = {"x": LIST, "weight": normal("weight", 5, 3), "offsets": np.array([0, 2, 2, 8])}
            cases.append(Case(f"bag last offset {options}", inputs, call))
    for x, offsets in ((INDICES, None), (LIST, np.array([0, 3, 3, 5]))):
        for padding_idx in (None, 0):
            inputs = {"x": x, "weight": normal("weight", 5, 3), "factors": normal("factors", *x.shape)}
            if offsets is not None:
                inputs["offsets"] = offsets
            call = lambda F, x, weight, factors, offsets=None, padding_idx=padding_idx: F.embedding_bag(
                x, weight, offsets, mode="sum", per_sample_weights=factors, padding_idx=padding_idx
            )
            cases.append(Case(f"bag weighted {x.shape} {padding_idx}", inputs, call))
    return cases


def _one_hot() -> list[Case]:
    call = lambda classes: lambda F, x: F.one_hot(x, classes)
    return [
        Case("one_hot inferred", {"x": INDICES}, call(-1)),
        Case("one_hot more classes", {"x": LIST}, call(7)),
        Case("one_hot scalar", {"x": np.array(2)}, call(3)),
        Case("one_hot empty", {"x": np.zeros((0, 2), np.int64)}, call(3)),
        Case("one_hot zeros", {"x": np.zeros(3, np.int64)}, call(-1)),
    ]


CASES = [*_embeddings(), *_bags(), *_one_hot()]
