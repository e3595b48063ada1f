"""The layered layout: what every picture relies on, for any graph."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgfn.plot.layering import assign_layers, topological_order
from asgfn.plot.layout import BoxSize, FrameSize, Layout, Wire, arrange
from asgfn.plot.level import Rectangle
from asgfn.plot.ordering import Link, order_layers

TOLERANCE = 1e-6
patient = settings(deadline=None, max_examples=60)


@st.composite
def problems(draw, most_boxes: int = 24, most_frames: int = 5) -> tuple[list[BoxSize], list[Wire], list[FrameSize]]:
    """Boxes in program order; each frame holds a run of them, so that no cycle leads through a frame."""
    count = draw(st.integers(1, most_boxes))
    wires = []
    exits = [draw(st.sampled_from([(0.0,), (-8.0, 8.0)])) for _ in range(count)]
    for target in range(1, count):
        for source in draw(st.lists(st.integers(0, target - 1), max_size=3)):
            wires.append(Wire(source, draw(st.integers(0, len(exits[source]) - 1)), target))
    frames, frame_of = [], [-1] * count
    runs: list[tuple[int, int, int]] = [(-1, 0, count)]
    for _ in range(draw(st.integers(0, most_frames))):
        parent, start, stop = draw(st.sampled_from(runs))
        inner_start = draw(st.integers(start, stop - 1))
        inner_stop = draw(st.integers(inner_start + 1, stop))
        if any(frame_of[number] != parent for number in range(inner_start, inner_stop)):
            continue
        frames.append(FrameSize(parent, draw(st.floats(10, 120)), 12.0))
        for number in range(inner_start, inner_stop):
            frame_of[number] = len(frames) - 1
        runs.append((len(frames) - 1, inner_start, inner_stop))
    sizes = st.tuples(st.floats(20, 140), st.floats(10, 50))
    boxes = [BoxSize(*draw(sizes), frame, exit_) for frame, exit_ in zip(frame_of, exits, strict=True)]
    return boxes, wires, frames


def overlap(a: Rectangle, b: Rectangle) -> bool:
    return (
        a.left < b.right - TOLERANCE
        and b.left < a.right - TOLERANCE
        and a.top < b.bottom - TOLERANCE
        and b.top < a.bottom - TOLERANCE
    )


def contains(outer: Rectangle, inner: Rectangle) -> bool:
    return (
        outer.left <= inner.left + TOLERANCE
        and outer.top <= inner.top + TOLERANCE
        and outer.right >= inner.right - TOLERANCE
        and outer.bottom >= inner.bottom - TOLERANCE
    )


def enclosing(frames: list[FrameSize], frame: int) -> set[int]:
    found = set()
    while frame >= 0:
        found.add(frame)
        frame = frames[frame].parent
    return found


@patient
@given(problems())
def test_boxes_do_not_overlap(problem):
    layout = arrange(*problem)
    for a, b in itertools.combinations(layout.boxes, 2):
        assert not overlap(a, b)


@patient
@given(problems())
def test_wires_lead_down(problem):
    layout = arrange(*problem)
    for wire in problem[1]:
        assert layout.boxes[wire.source].bottom < layout.boxes[wire.target].top
    for path in layout.paths:
        assert all(later[1] >= earlier[1] for earlier, later in itertools.pairwise(path.points))


@patient
@given(problems())
def test_frames_hold_their_own_boxes_and_no_others(problem):
    boxes, _, frames = problem
    layout = arrange(*problem)
    for index, frame in enumerate(layout.frames):
        for box, rectangle in zip(boxes, layout.boxes, strict=True):
            if index in enclosing(frames, box.frame):
                assert contains(frame, rectangle)
            else:
                assert not overlap(frame, rectangle)
        for other, rectangle in enumerate(layout.frames):
            if index in enclosing(frames, other):
                assert contains(frame, rectangle)
            elif other not in enclosing(frames, index):
                assert not overlap(frame, rectangle)


@patient
@given(problems())
def test_titles_lie_in_their_frames_and_hit_nothing(problem):
    layout = arrange(*problem)
    for frame, title in zip(layout.frames, layout.titles, strict=True):
        assert contains(frame, title)
        assert not any(overlap(title, box) for box in layout.boxes)
        for x, top, bottom in vertical_pieces(layout):
            assert not overlap(title, Rectangle(x - 0.5, top, 1.0, bottom - top))


@patient
@given(problems())
def test_wires_do_not_run_through_boxes(problem):
    layout = arrange(*problem)
    for x, top, bottom in vertical_pieces(layout):
        piece = Rectangle(x - 0.5, top, 1.0, bottom - top)
        assert not any(overlap(piece, box) for box in layout.boxes)
    for left, right, top, bottom in bows(layout):
        piece = Rectangle(left, top, right - left, bottom - top)
        assert not any(overlap(piece, box) for box in layout.boxes)


@patient
@given(problems())
def test_every_wire_leads_from_its_box_to_its_box(problem):
    boxes, wires, _ = problem
    layout = arrange(*problem)
    for number, wire in enumerate(wires):
        pieces = sorted((path for path in layout.paths if number in path.wires), key=lambda path: path.points[0][1])
        source, target = layout.boxes[wire.source], layout.boxes[wire.target]
        exit_ = source.centre[0] + boxes[wire.source].exits[wire.output]
        assert pieces[0].points[0] == pytest.approx((exit_, source.bottom))
        assert pieces[-1].ends_in_box
        x, y = pieces[-1].points[-1]
        assert y == pytest.approx(target.top) and target.left < x < target.right
        for upper, lower in itertools.pairwise(pieces):
            assert upper.points[-1] == pytest.approx(lower.points[0])


@patient
@given(problems())
def test_everything_lies_on_the_page(problem):
    layout = arrange(*problem)
    page = Rectangle(0.0, 0.0, layout.width, layout.height)
    assert all(contains(page, rectangle) for rectangle in (*layout.boxes, *layout.frames, *layout.titles))
    for path in layout.paths:
        assert all(-TOLERANCE <= x <= layout.width + TOLERANCE for x, _ in path.points)


@patient
@given(problems())
def test_the_same_problem_gives_the_same_layout(problem):
    assert arrange(*problem) == arrange(*problem)


def vertical_pieces(layout: Layout) -> list[tuple[float, float, float]]:
    pairs = [pair for path in layout.paths for pair in itertools.pairwise(path.points)]
    return [(a[0], a[1], b[1]) for a, b in pairs if a[0] == b[0]]


def bows(layout: Layout) -> list[tuple[float, float, float, float]]:
    pairs = [pair for path in layout.paths for pair in itertools.pairwise(path.points)]
    return [(min(a[0], b[0]), max(a[0], b[0]), a[1], b[1]) for a, b in pairs if a[0] != b[0]]


def test_nothing_to_lay_out():
    layout = arrange([], [])
    assert layout.boxes == () and layout.width == 0 and layout.height == 0


def test_a_chain_is_straight():
    layout = arrange([BoxSize(60, 20)] * 5, [Wire(number, 0, number + 1) for number in range(4)])
    assert len({box.centre[0] for box in layout.boxes}) == 1


def test_the_longest_chain_is_straight_beside_what_feeds_it():
    boxes = [BoxSize(60, 20)] * 8
    chain = [Wire(number, 0, number + 1) for number in range(4)]
    feeds = [Wire(5 + number, 0, 2 + number) for number in range(3)]
    layout = arrange(boxes, chain + feeds)
    assert len({round(box.centre[0], 6) for box in layout.boxes[:5]}) == 1


def test_a_long_wire_beside_a_chain_has_two_bends():
    boxes = [BoxSize(60, 20)] * 8
    wires = [Wire(number, 0, number + 1) for number in range(7)] + [Wire(0, 0, 7)]
    layout = arrange(boxes, wires)
    (long,) = (path for path in layout.paths if path.wires == (7,))
    assert len({x for x, _ in long.points[1:-1]}) <= 3


def test_a_parameter_stands_next_to_its_reader():
    """Box 6 feeds only the end of the chain 0, 1, ..., 5."""
    wires = [Wire(number, 0, number + 1) for number in range(5)] + [Wire(6, 0, 5)]
    layout = arrange([BoxSize(60, 20)] * 7, wires)
    assert layout.boxes[6].top == layout.boxes[4].top


def test_a_cycle_is_refused():
    with pytest.raises(ValueError, match="without cycles"):
        arrange([BoxSize(10, 10)] * 2, [Wire(0, 0, 1), Wire(1, 0, 0)])


def test_a_cycle_between_frames_is_refused():
    boxes = [BoxSize(10, 10, 0), BoxSize(10, 10), BoxSize(10, 10, 0)]
    with pytest.raises(ValueError, match="without cycles"):
        arrange(boxes, [Wire(0, 0, 1), Wire(1, 0, 2)], [FrameSize(-1, 10, 10)])


@st.composite
def acyclic(draw) -> tuple[int, list[tuple[int, int]]]:
    count = draw(st.integers(1, 14))
    pairs = [(tail, head) for head in range(count) for tail in range(head)]
    return count, draw(st.lists(st.sampled_from(pairs), max_size=24)) if pairs else []


@patient
@given(acyclic())
def test_layering_has_the_least_total_length(graph):
    optimize = pytest.importorskip("scipy.optimize")
    count, edges = graph
    layers = assign_layers(count, edges)
    assert min(layers) == 0
    assert all(layers[head] > layers[tail] for tail, head in edges)
    if edges:
        costs, rows = [0.0] * count, []
        for tail, head in edges:
            costs[head] += 1
            costs[tail] -= 1
            rows.append([1.0 if v == tail else -1.0 if v == head else 0.0 for v in range(count)])
        least = optimize.linprog(costs, A_ub=rows, b_ub=[-1.0] * len(edges), bounds=(0, None)).fun
        assert sum(layers[head] - layers[tail] for tail, head in edges) == pytest.approx(least)


@patient
@given(acyclic())
def test_topological_order_respects_edges(graph):
    count, edges = graph
    order = topological_order(count, edges)
    place = {vertex: index for index, vertex in enumerate(order)}
    assert sorted(order) == list(range(count))
    assert all(place[tail] < place[head] for tail, head in edges)


def test_ordering_untangles_two_crossed_links():
    order = order_layers([[0, 1], [2, 3]], [Link(0, 3), Link(1, 2)])
    assert (order[0].index(0) < order[0].index(1)) == (order[1].index(3) < order[1].index(2))


def test_a_deep_graph_needs_no_recursion():
    count = 5000
    layout = arrange([BoxSize(40, 16)] * count, [Wire(number, 0, number + 1) for number in range(count - 1)])
    assert layout.boxes[-1].bottom == pytest.approx(layout.height)


def test_a_thousand_boxes_take_seconds():
    wires = [Wire(max(0, target - step), 0, target) for target in range(1, 1000) for step in (1, 2 + target * 7 % 23)]
    start = time.process_time()
    arrange([BoxSize(70, 28)] * 1000, wires)
    assert time.process_time() - start < 10
