"""Name scopes as frames: which boxes stand together, and which scopes are shown as one box."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from asgfn.plot import labels
from asgfn.plot.diagram import Box, Diagram
from asgfn.plot.layout import Wire
from asgfn.records import record, replace


@record
class Scope:
    """A frame of the picture.

    The boxes of one name scope may need several frames: when a path leaves the scope and comes back (a forward and a
    backward pass carry the same scope), a single frame would have to lie above and below the boxes between.
    """

    path: str
    parent: int
    depth: int
    number: int

    @property
    def title(self) -> str:
        name = self.path.rsplit("/", 1)[-1]
        return name if self.number == 1 else f"{name} ({self.number})"


@record
class Grouping:
    """Scopes, each after its parent, and for each box of a diagram the innermost scope around it (-1: none)."""

    scopes: tuple[Scope, ...]
    scope_of: tuple[int, ...]

    def enclosing(self, scope: int) -> list[int]:
        """The scope and those around it, from inside out, without -1."""
        chain = []
        while scope >= 0:
            chain.append(scope)
            scope = self.scopes[scope].parent
        return chain


def group_by_scope(diagram: Diagram) -> Grouping:
    """Put the boxes of each scope, as far as they can stand together, in one frame.

    Inputs and constants have no scope of their own. They join the innermost frame around all their consumers; an
    argument as a whole (a name without a path) stays outside.
    """
    makers: list[list[int]] = [[] for _ in diagram.boxes]
    for wire in diagram.wires:
        makers[wire.target].append(wire.source)
    scopes: list[Scope] = []
    scope_of = [-1] * len(diagram.boxes)
    counts: dict[str, int] = {}
    unfinished = [(-1, [number for number, box in enumerate(diagram.boxes) if not box.is_source])]
    for parent, members in unfinished:  # grows while it is walked
        depth = scopes[parent].depth + 1 if parent >= 0 else 0
        parts = {number: _part(diagram.boxes[number].scope, depth) for number in members}
        for name, group in _convex_groups(members, parts, makers):
            path = f"{scopes[parent].path}/{name}" if parent >= 0 else name
            counts[path] = counts.get(path, 0) + 1
            scopes.append(Scope(path, parent, depth, counts[path]))
            for number in group:
                scope_of[number] = len(scopes) - 1
            unfinished.append((len(scopes) - 1, group))
    grouping = Grouping(tuple(scopes), tuple(scope_of))
    return replace(grouping, scope_of=tuple(_with_sources(diagram, grouping)))


def _part(scope: str, depth: int) -> str:
    parts = [part for part in scope.split("/") if part]
    return parts[depth] if depth < len(parts) else ""


def _convex_groups(
    members: Sequence[int], parts: dict[int, str], makers: Sequence[Sequence[int]]
) -> list[tuple[str, list[int]]]:
    """Cut the members of each part, which come in program order, so that the groups have no cycle among them.

    A box joins the latest group of its part unless one of its makers, outside that group, depends on the group.
    """
    cluster_of: dict[int, int] = {}
    groups: list[list[int]] = []
    ancestors: list[int] = []  # for each cluster a set of clusters, as bits
    latest: dict[str, int] = {}
    for number in members:
        part = parts[number]
        outside = {cluster_of[maker] for maker in makers[number] if maker in cluster_of}
        cluster = latest.get(part) if part else None
        if cluster is not None:
            outside.discard(cluster)
            if any(ancestors[other] >> cluster & 1 for other in outside):
                cluster = None
        if cluster is None:
            cluster = len(groups)
            groups.append([])
            ancestors.append(0)
            outside = {cluster_of[maker] for maker in makers[number] if maker in cluster_of}
        above = 0
        for other in outside:
            above |= ancestors[other] | 1 << other
        if above & ~ancestors[cluster]:
            ancestors[cluster] |= above
            for other in range(len(groups)):
                if ancestors[other] >> cluster & 1:
                    ancestors[other] |= above
        groups[cluster].append(number)
        cluster_of[number] = cluster
        latest[part] = cluster
    return [(parts[group[0]], group) for group in groups if parts[group[0]]]


def _with_sources(diagram: Diagram, grouping: Grouping) -> list[int]:
    scope_of = list(grouping.scope_of)
    readers: dict[int, list[int]] = {}
    for wire in diagram.wires:
        readers.setdefault(wire.source, []).append(wire.target)
    for number, box in enumerate(diagram.boxes):
        is_whole_argument = box.kind == "input" and not any(mark in box.arguments[0] for mark in "[.")
        if not box.is_source or is_whole_argument or number not in readers:
            continue
        chains = [list(reversed(grouping.enclosing(scope_of[reader]))) for reader in readers[number]]
        for candidates in zip(*chains, strict=False):
            if len(set(candidates)) > 1:
                break
            scope_of[number] = candidates[0]
    return scope_of


def scopes_to_collapse(grouping: Grouping, collapse: str | int | Collection[str]) -> set[int]:
    """The outermost scopes to show as one box.

    Arguments:
        collapse: "all" for every scope, a depth (scopes inside that many others are collapsed; 0 is "all"), or the
            names of scopes ("block/attention").

    Raises ValueError for an unknown name or a negative depth.
    """
    if collapse == "all":
        collapse = 0
    if isinstance(collapse, int):
        if collapse < 0:
            raise ValueError(f"graph: collapse must be a depth of at least 0, got {collapse}")
        chosen = {index for index, scope in enumerate(grouping.scopes) if scope.depth == collapse}
    else:
        names = {collapse} if isinstance(collapse, str) else set(collapse)
        known = list(dict.fromkeys(scope.path for scope in grouping.scopes))
        unknown = sorted(names.difference(known))
        if unknown:
            shown = ", ".join(map(repr, known[:20])) or "none"
            raise ValueError(f"graph: no scope is named {', '.join(map(repr, unknown))}; scopes of this graph: {shown}")
        chosen = {index for index, scope in enumerate(grouping.scopes) if scope.path in names}
    return {index for index in chosen if not chosen.intersection(grouping.enclosing(grouping.scopes[index].parent))}


def collapse_scopes(diagram: Diagram, grouping: Grouping, chosen: Iterable[int]) -> tuple[Diagram, Grouping]:
    """Show each of the chosen scopes as one box, with an output for each value that leaves it."""
    chosen = set(chosen)
    if not chosen:
        return diagram, grouping
    inside = [next((s for s in grouping.enclosing(scope) if s in chosen), -1) for scope in grouping.scope_of]
    members: dict[int, list[int]] = {scope: [] for scope in sorted(chosen)}
    for number, scope in enumerate(inside):
        if scope >= 0:
            members[scope].append(number)

    kept = [number for number, scope in enumerate(inside) if scope < 0]
    place = {number: index for index, number in enumerate(kept)}
    boxes = [diagram.boxes[number] for number in kept]
    scope_of = [grouping.scope_of[number] for number in kept]
    box_of_scope = {scope: len(boxes) + index for index, scope in enumerate(members)}
    outputs: dict[int, dict[tuple[int, int], int]] = {scope: {} for scope in members}
    wires: dict[Wire, int] = {}
    for wire in diagram.wires:
        source, target = inside[wire.source], inside[wire.target]
        if source == target >= 0:
            continue
        start, output = place.get(wire.source, -1), wire.output
        if source >= 0:
            start = box_of_scope[source]
            output = outputs[source].setdefault((wire.source, wire.output), len(outputs[source]))
        end = box_of_scope[target] if target >= 0 else place[wire.target]
        new = Wire(start, output, end)
        # Two operands of one box are two wires; two readers within a collapsed scope are one.
        wires[new] = 1 if target >= 0 else wires.get(new, 0) + 1
    for scope, numbers in members.items():
        leaving = [diagram.boxes[number].tags[output : output + 1] for number, output in outputs[scope]]
        boxes.append(_collapsed(grouping.scopes[scope], [diagram.boxes[number] for number in numbers], leaving))
        scope_of.append(grouping.scopes[scope].parent)

    left = [index for index in range(len(grouping.scopes)) if not chosen.intersection(grouping.enclosing(index))]
    new_index = {-1: -1} | {old: new for new, old in enumerate(left)}
    scopes = tuple(replace(grouping.scopes[old], parent=new_index[grouping.scopes[old].parent]) for old in left)
    drawn = Diagram(tuple(boxes), tuple(wire for wire, count in wires.items() for _ in range(count)), diagram.notes)
    return drawn, Grouping(scopes, tuple(new_index[scope] for scope in scope_of))


def _collapsed(scope: Scope, members: Sequence[Box], tags: Sequence[tuple[str, ...]]) -> Box:
    count = sum(box.kind in ("node", "scope") for box in members)
    inputs = sum(box.kind == "input" for box in members)
    details = [labels.operations(count)]
    if inputs:
        details.append(f"{inputs} input" if inputs == 1 else f"{inputs} inputs")
    return Box(
        "scope",
        "call",
        scope.title,
        tuple(details),
        tuple(tag[0] if tag else "" for tag in tags),
        scope.path,
        tuple(dict.fromkeys(node for box in members for node in box.nodes)),
        tuple(argument for box in members for argument in box.arguments),
        holds_graphs=True,
    )
