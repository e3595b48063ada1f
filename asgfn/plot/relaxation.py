"""Shorten the sideways ways of a placement without bending what is straight.

Vertices joined by straight strands move as one block, to the median of where the block's other strands pull it, as far
as the neighbours in its layers leave room. Every move shortens the sum of all sideways ways. Blocks that come to stand
in line grow together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from asgfn.plot.columns import Column, Strand, distance

MOST_SWEEPS = 40
VERTEX_VISITS = 400_000
STRAIGHT = 0.01


def relaxed(
    layers: Sequence[Sequence[int]], columns: Sequence[Column], strands: Sequence[Strand], centres: Sequence[float]
) -> list[float]:
    """Horizontal centres with shorter strands; order and distances in the layers hold as before."""
    x = list(centres)
    left_of: list[tuple[int, float] | None] = [None] * len(columns)
    right_of: list[tuple[int, float] | None] = [None] * len(columns)
    for layer in layers:
        for left, right in pairwise(layer):
            gap = distance(columns[left], columns[right])
            left_of[right], right_of[left] = (left, gap), (right, gap)
    at: list[list[tuple[int, float]]] = [[] for _ in columns]  # where each strand wants a vertex to be
    for strand in strands:
        at[strand.lower].append((strand.upper, strand.exit - strand.entry))
        at[strand.upper].append((strand.lower, strand.entry - strand.exit))
    for sweep in range(max(4, min(MOST_SWEEPS, VERTEX_VISITS // max(1, len(columns))))):
        moved = False
        blocks = _blocks(x, strands)
        blocks.sort(key=lambda block: x[block[0]], reverse=sweep % 2 == 1)
        block_of = {vertex: number for number, block in enumerate(blocks) for vertex in block}
        for number, block in enumerate(blocks):
            pulls = sorted(
                x[other] + offset - x[vertex]
                for vertex in block
                for other, offset in at[vertex]
                if block_of[other] != number
            )
            if not pulls:
                continue
            low, high = pulls[(len(pulls) - 1) // 2], pulls[len(pulls) // 2]
            way = low if low > 0 else high if high < 0 else 0.0
            if way < 0:
                room = (x[vertex] - x[end[0]] - end[1] for vertex in block if (end := left_of[vertex]))
                way = max(way, -max(0.0, min(room, default=-way)))
            elif way > 0:
                room = (x[end[0]] - x[vertex] - end[1] for vertex in block if (end := right_of[vertex]))
                way = min(way, max(0.0, min(room, default=way)))
            if abs(way) > STRAIGHT:
                moved = True
                for vertex in block:
                    x[vertex] += way
        if not moved:
            break
    return x


def _blocks(x: Sequence[float], strands: Sequence[Strand]) -> list[list[int]]:
    """The vertices that straight strands join."""
    parent = list(range(len(x)))

    def find(vertex: int) -> int:
        while parent[vertex] != vertex:
            parent[vertex] = parent[parent[vertex]]
            vertex = parent[vertex]
        return vertex

    for strand in strands:
        if abs(x[strand.upper] + strand.exit - x[strand.lower] - strand.entry) <= STRAIGHT:
            parent[find(strand.lower)] = find(strand.upper)
    blocks: dict[int, list[int]] = {}
    for vertex in range(len(x)):
        blocks.setdefault(find(vertex), []).append(vertex)
    return list(blocks.values())
