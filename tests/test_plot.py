"""Pictures of graphs: what they say, what they leave out, and how they are saved and shown."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from asgfn.plot import Path, graph, palette, sizes
from asgfn.plot.bundling import bundled
from asgfn.plot.diagram import Diagram, diagram_of
from asgfn.plot.highlight import find_highlight
from asgfn.plot.inlining import inline_calls
from asgfn.plot.neighbourhood import restrict
from asgfn.plot.scopes import collapse_scopes, group_by_scope, scopes_to_collapse
from asgfn.primitives.base import CATEGORIES


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


PARAMS = {"hidden": {"w": zeros(8, 16), "b": zeros(16)}, "head": {"w": zeros(16, 4), "b": zeros(4)}}


def network(params, x):
    with asgfn.named_scope("hidden"):
        with asgfn.named_scope("linear"):
            x = x @ params["hidden"]["w"] + params["hidden"]["b"]
        x = jnp.tanh(x)
    with asgfn.named_scope("head"):
        return x @ params["head"]["w"] + params["head"]["b"]


def loss(params, x, y):
    return jnp.mean((network(params, x) - y) ** 2)


@pytest.fixture(scope="module")
def forward() -> asgfn.Asg:
    return asgfn.trace(network)(PARAMS, zeros(2, 8))


@pytest.fixture(scope="module")
def backward() -> asgfn.Asg:
    return asgfn.trace(asgfn.grad(loss))(PARAMS, zeros(2, 8), zeros(2, 4))


def chain(length: int) -> asgfn.Asg:
    def repeat(x):
        for _ in range(length):
            x = jnp.sin(x)
        return x

    return asgfn.trace(repeat)(zeros(3))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def names(diagram: Diagram) -> list[str]:
    return [box.name for box in diagram.boxes]


# ---------------------------------------------------------------------------------------------------- what a picture says


def test_labels_of_inputs_operations_types_scopes_and_outputs(forward):
    said = texts(graph(forward))
    for text in ("network", "x", "params['hidden']['w']", "dot_general", "tanh", "float32[2,16]", "hidden", "linear"):
        assert text in said
    assert "output" in said
    assert "sum over 1 · 0" in said
    assert any("5 inputs, 1 output" in text for text in said)


def test_outputs_are_called_by_their_path(backward):
    assert {"output['hidden']['w']", "output['head']['b']"} <= set(texts(graph(backward)))


def test_several_outputs_without_a_structure_are_numbered():
    asg = asgfn.trace(lambda x: (jnp.sin(x), jnp.cos(x)))(zeros(3)).replace(out_tree=None)
    assert {"output 0", "output 1"} <= set(texts(graph(asg)))


def test_scalar_constants_say_their_value_and_stand_at_each_use():
    asg = asgfn.trace(lambda x: jnp.sin(x * 2.5) * 2.5)(zeros(3))
    assert names(diagram_of(asg)).count("2.5") == 2
    assert "2.5" not in texts(graph(asg, show_constants=False))


def test_larger_constants_say_their_type():
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    said = texts(graph(lambda x: x + table, zeros(2, 3)))
    assert "constant" in said


def test_telling_parameters():
    said = texts(graph(lambda x: jnp.transpose(jnp.sum(x, axis=1)).reshape(6, 1), zeros(2, 5, 3)))
    assert any("axes (1)" in text for text in said)
    assert any("(6, 1)" in text for text in said)


def test_nested_graphs_say_how_much_they_hold():
    def run(x):
        total, _ = lax.scan(lambda c, a: (c + jnp.sin(a), None), jnp.float32(0.0), x)
        return total

    said = texts(graph(run, zeros(5)))
    assert "scan" in said
    assert any("2 operations" in text for text in said)


def test_the_legend_names_the_categories_that_occur(forward):
    said = texts(graph(forward))
    assert {"contraction", "arithmetic", "input", "output"} <= set(said)
    assert "fft" not in said
    assert "contraction" not in texts(graph(forward, legend=False))


def test_title_and_shapes_can_be_left_out(forward):
    said = texts(graph(forward, title="my network", show_shapes=False))
    assert said[0] == "my network"
    assert "float32[2,16]" not in said


def test_names_are_no_formulas():
    figure = graph(lambda x: x, zeros(1), title="cost in $ and $")
    assert figure.axes[0].texts[0].get_parse_math() is False


def test_a_picture_can_be_drawn_of_a_graph_without_operations():
    said = texts(graph(lambda x, y: x, zeros(2), zeros(3)))
    assert {"x", "y", "output"} <= set(said)


def test_every_category_has_a_colour_on_which_text_is_legible():
    for category in CATEGORIES:
        assert category in palette.FILLS
    assert len(set(palette.FILLS.values())) == len(palette.FILLS)
    for colour in palette.FILLS.values():
        assert palette.contrast(palette.text_on(colour), colour) >= 7
    for colour in (palette.PAPER, *palette.FRAME_FILLS):
        assert palette.contrast(palette.FAINT_INK, colour) >= 4.5


# How red-blind and green-blind eyes see linear RGB (Machado, Oliveira and Fernandes 2009, table 1, severity 1).
EYES = {
    "usual": np.eye(3),
    "red-blind": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green-blind": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("eyes", EYES)
def test_any_two_colours_differ_for_all_eyes(eyes):
    """By at least 7 in the CIE 1976 colour difference, where about 2.3 can just be noticed."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])

    def lab(colour: str) -> np.ndarray:
        rgb = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        seen = np.clip(np.asarray(EYES[eyes]) @ linear, 0, 1)
        xyz = to_xyz @ seen / np.array([0.9505, 1.0, 1.089])
        x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    colours = [lab(colour) for colour in palette.FILLS.values()]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(colours, 2)) > 7


def test_texts_fit_their_boxes(backward):
    diagram = diagram_of(backward)
    for box in diagram.boxes:
        width = sizes.box_size(box, -1, show_shapes=True).width
        assert sizes.text_width(box.name, sizes.NAME_SIZE, bold=True) < width
        assert all(sizes.text_width(line, sizes.DETAIL_SIZE) < width for line in box.details)


# ---------------------------------------------------------------------------------------------------- scopes


def test_scopes_that_are_left_and_entered_again_are_cut(backward):
    grouping = group_by_scope(diagram_of(backward))
    titles = {scope.title for scope in grouping.scopes}
    assert {"hidden", "hidden (2)", "head"} <= titles


def test_parameters_join_the_scope_that_reads_them_and_arguments_stay_outside(forward):
    diagram = diagram_of(forward)
    grouping = group_by_scope(diagram)
    scope_of = {box.name: scope for box, scope in zip(diagram.boxes, grouping.scope_of, strict=True)}
    assert grouping.scopes[scope_of["params['hidden']['w']"]].path == "hidden/linear"
    assert scope_of["x"] == -1


@pytest.mark.parametrize(
    ("collapse", "present", "absent"),
    [
        ("all", {"hidden", "head"}, {"tanh", "dot_general"}),
        (0, {"hidden", "head"}, {"tanh"}),
        (1, {"linear", "tanh", "dot_general"}, set()),
        (["head"], {"head", "tanh"}, set()),
        ("hidden/linear", {"linear", "tanh"}, set()),
        ((), {"tanh", "dot_general"}, set()),
    ],
)
def test_collapse(forward, collapse, present, absent):
    said = set(texts(graph(forward, collapse=collapse)))
    assert present <= said
    assert not absent & said


def test_a_collapsed_scope_says_what_it_holds(forward):
    said = texts(graph(forward, collapse="all"))
    assert "2 inputs" in said
    assert any(text.endswith("operations") for text in said)


def test_collapsed_graphs_have_no_cycles_and_lead_forward(backward):
    diagram = diagram_of(backward)
    grouping = group_by_scope(diagram)
    for depth in (0, 1):
        smaller, _ = bundled(*collapse_scopes(diagram, grouping, scopes_to_collapse(grouping, depth)))
        assert len(smaller.boxes) < len(diagram.boxes)
        graph(backward, collapse=depth)  # raises on a cycle


def test_values_that_go_the_same_way_share_a_wire():
    def many(xs):
        with asgfn.named_scope("first"):
            made = [jnp.sin(x) for x in xs]
        with asgfn.named_scope("second"):
            return [jnp.cos(x) for x in made]

    said = texts(graph(many, [zeros(2)] * 5, collapse="all"))
    assert {"5 values", "5 outputs"} <= set(said)


def test_unknown_scope(forward):
    with pytest.raises(ValueError, match=r"no scope is named 'body'; scopes of this graph: .*'hidden/linear'"):
        graph(forward, collapse=["body"])


def test_negative_depth(forward):
    with pytest.raises(ValueError, match="depth of at least 0, got -1"):
        graph(forward, collapse=-1)


def test_a_large_graph_is_collapsed_and_says_so():
    def deep(x):
        for index in range(30):
            with asgfn.named_scope(f"layer{index}"):
                for _ in range(10):
                    x = jnp.sin(x)
        return x

    said = texts(graph(deep, zeros(3)))
    assert any("30 scopes collapsed, holding 300 operations" in text for text in said)
    assert said.count("10 operations") == 30


def test_a_graph_of_a_thousand_operations():
    figure = graph(chain(1000))
    assert texts(figure).count("sin") == 1000
    assert max(figure.get_size_inches()) <= 200


# ---------------------------------------------------------------------------------------------------- calls


def test_expand_shows_what_calls_hold():
    @asgfn.jit
    def inner(x):
        return jnp.sin(x) * 3

    def outer(x):
        with asgfn.named_scope("outer"):
            return jnp.cos(inner(inner(x)))

    asg = asgfn.trace(outer)(zeros(3))
    assert "sin" not in texts(graph(asg))
    said = texts(graph(asg, expand=True))
    assert said.count("sin") == 2
    assert "inner" in said
    expanded, origins = inline_calls(asg)
    assert {node.scope for node in expanded.nodes if node.primitive.name == "sin"} == {"outer/inner"}
    assert len(origins) == len(expanded.nodes)
    assert origins == sorted(origins)


def test_expanded_calls_compute_the_same():
    @asgfn.jit
    def inner(x, y):
        return jnp.sin(x) * 3, y

    def outer(x, y):
        a, b = inner(x, y)
        c, d = inner(b, a)
        return c - d, y + 2.0

    x, y = np.float32([1, 2]), np.float32([3, 5])
    asg = asgfn.trace(outer)(x, y)
    expanded, _ = inline_calls(asg)
    expanded.validate()
    for mine, theirs in zip(expanded(x, y), asg(x, y), strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))


# ---------------------------------------------------------------------------------------------------- neighbourhood


def test_neighbourhood_keeps_what_is_near_and_marks_what_is_left_out():
    diagram = restrict(diagram_of(chain(20)), (10, 2), 20)
    kept = [box.nodes[0] for box in diagram.boxes if box.kind == "node"]
    assert kept == [8, 9, 10, 11, 12]
    assert [box.name for box in diagram.boxes if box.kind == "more"] == ["… sin", "1 more …"]


def test_neighbourhood_says_how_much_is_left_out():
    said = texts(graph(chain(20), neighbourhood=10))
    assert "node 10 and what is within 2 of it: 5 of 20 operations" in said


@pytest.mark.parametrize("radius", [0, 1, 30])
def test_a_neighbourhood_of_any_radius_can_be_drawn(backward, radius):
    graph(backward, neighbourhood=(5, radius))


def test_neighbourhood_of_a_node_that_does_not_exist():
    with pytest.raises(IndexError, match="neighbourhood of node 20, but the nodes are 0 to 19"):
        graph(chain(20), neighbourhood=20)


@pytest.mark.parametrize("wrong", ["sin", (1, 2, 3), 1.5, (1, -1)])
def test_neighbourhood_that_is_no_node(wrong):
    with pytest.raises(ValueError, match=r"index or \(index, radius\)|radius of a neighbourhood"):
        graph(chain(20), neighbourhood=wrong)


# ---------------------------------------------------------------------------------------------------- highlight


def test_a_highlighted_node_stands_out_with_its_wires():
    diagram = diagram_of(chain(5))
    found = find_highlight(diagram, 2, ("x",), 5)
    assert {diagram.boxes[number].nodes for number in found.boxes} == {(2,)}
    assert len(found.wires) == 2


def test_a_highlighted_path_holds_every_way_between_its_ends():
    def forked(x):
        a = jnp.sin(x)
        return jnp.cos(a) + jnp.tanh(a), jnp.exp(x)

    asg = asgfn.trace(forked)(zeros(3))
    diagram = diagram_of(asg)
    found = find_highlight(diagram, Path("x", 3), asg.input_names, len(asg.nodes))
    assert {diagram.boxes[number].name for number in found.boxes} == {"x", "sin", "cos", "tanh", "add"}
    assert len(found.wires) == 5


def test_highlighted_parts_are_amber(forward):
    def count_amber(figure: Figure) -> int:
        return sum(
            np.allclose(colour[:3], [224 / 255, 135 / 255, 0])
            for collection in figure.axes[0].collections
            for colour in collection.get_edgecolor()
        )

    assert count_amber(graph(forward)) == 0
    assert count_amber(graph(forward, highlight=[0, 1])) == 2
    assert count_amber(graph(forward, highlight=Path("x", len(forward.nodes) - 1))) > 2


def test_highlight_of_what_does_not_exist(forward):
    with pytest.raises(IndexError, match="highlight of node 99"):
        graph(forward, highlight=99)
    with pytest.raises(ValueError, match=r"no input is named 'z'; inputs of this graph: .*'x'"):
        graph(forward, highlight="z")
    with pytest.raises(ValueError, match="no path leads from 3 to 0"):
        graph(chain(5), highlight=Path(3, 0))
    with pytest.raises(TypeError, match="highlight takes node indices"):
        graph(forward, highlight=[1.5])


# ---------------------------------------------------------------------------------------------------- figures and files


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_file_is_written_whole_and_alone(tmp_path, forward, ending, start):
    path = tmp_path / f"graph.{ending}"
    path.write_text("old")
    graph(forward, path=path)
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing_behind(tmp_path, forward, monkeypatch):
    path = tmp_path / "graph.svg"
    path.write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        graph(forward, path=path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_in_an_svg_is_text_and_the_same_picture_the_same_bytes(tmp_path, forward):
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    graph(forward, path=first)
    graph(forward, path=second)
    assert first.read_bytes() == second.read_bytes()
    assert "dot_general</text>" in first.read_text()


@pytest.mark.parametrize("name", ["graph", "graph.jpeg"])
def test_unknown_format_is_refused_before_drawing(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end with one of \.png, \.svg, \.pdf"):
        graph(lambda: 1 / 0, path=tmp_path / name)


def test_a_figure_of_a_given_size(forward):
    figure = graph(forward, figsize=(3, 4))
    assert figure.get_size_inches().tolist() == [3, 4]


def test_drawing_on_given_axes(forward):
    figure = Figure(figsize=(6, 6))
    left, right = figure.subplots(1, 2)
    assert graph(forward, ax=left) is figure
    assert left.texts
    assert not right.texts


def test_global_style_and_pyplot_stay_as_they_were(tmp_path, forward):
    import matplotlib

    before = dict(matplotlib.rcParams)
    graph(forward, path=tmp_path / "graph.svg")
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_notebooks_show_figures_and_graphs(forward):
    assert graph(forward)._repr_png_().startswith(b"\x89PNG")
    assert "dot_general" in forward._repr_svg_()


def test_arguments_next_to_a_graph(forward):
    with pytest.raises(TypeError, match="example arguments go with a function"):
        graph(forward, zeros(2))


def test_what_is_neither_graph_nor_function():
    with pytest.raises(TypeError, match="expected an Asg or a function, got int"):
        graph(3)


def test_texts_do_not_overlap(backward):
    figure = graph(backward)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    for a, b in itertools.combinations(boxes, 2):
        assert min(a.x1, b.x1) - max(a.x0, b.x0) < 1 or min(a.y1, b.y1) - max(a.y0, b.y0) < 2
