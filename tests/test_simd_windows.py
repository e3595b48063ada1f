"""How convolutions of a processor with vectors are cut."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import asgfn
from asgfn import lax
from asgfn.records import replace
from backends.kernels import index as ix
from backends.kernels.schedules.contraction_region import Region
from backends.kernels.schedules.simd_windows_cut import DEPTH, Box, Costs, choose, depth_box, seen
from backends.kernels.target import Target
from backends.kernels.types import Types

SIZES = [(5,), (3, 4, 5), (1, 7, 2), (512, 3, 3), (64, 28, 28), (2, 700), (1, 1, 1)]
TARGET = Target(types=Types(narrow=True), simd=16, cores=1, product=(8, 48))


def numbers(box: Box, number: int) -> list[int]:
    """The elements of a box, in order."""
    first = [i.constant for i in box.first(ix.constant(number))]
    ends = [min(i + n, size) for i, n, size in zip(first, box.lengths, box.sizes, strict=True)]
    points = itertools.product(*(range(i, end) for i, end in zip(first, ends, strict=True)))
    return [int(np.ravel_multi_index(point, box.sizes)) for point in points]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_boxes_of_steps_are_neighbours_and_leave_nothing_out(sizes: tuple[int, ...]) -> None:
    box = depth_box(sizes)
    assert box.length <= DEPTH
    found = [numbers(box, number) for number in range(math.prod(box.pieces))]
    assert [i for piece in found for i in piece] == list(range(math.prod(sizes)))


def test_what_windows_see() -> None:
    # positions two apart of windows of three taps, of one channel in four
    m, k = Box((2, 10), 1, 4), Box((8, 3), 0, 2)
    assert seen(((1, 0), (0, 0), (0, 2)), ((0, 0), (4, 0), (0, 1)), m, k) == ((1, 4, 1), (1, 2, 9))
    # of windows of one element, only those at positions
    assert seen(((0, 2),), ((0, 0),), m, k) == ((2,), (4,))


def test_more_cores_cut_the_result_and_not_the_sum() -> None:
    x, w = np.zeros((4, 64, 14, 14), np.float32), np.zeros((128, 64, 3, 3), np.float32)
    asg = asgfn.trace(lambda x, w: lax.conv(x, w, (1, 1), "SAME"))(x, w)
    p = Region(asg, TARGET.types).product
    p = p if p.rows.is_image else p.swapped()
    costs = Costs(((1, 0, 0), (0, 0, 0), (0, 1, 0), (0, 0, 1)), ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)), 1.0, True)
    found = [choose(p, costs, TARGET.product, replace(TARGET, cores=cores)) for cores in (1, 2, 8, 64)]
    assert len({k for _, _, k in found}) == 1
    for (m, columns, _), cores in zip(found, (1, 2, 8, 64), strict=True):
        assert math.prod(m.pieces) * -(-p.n // columns) >= cores
