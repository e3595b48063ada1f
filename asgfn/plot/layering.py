"""The first step of a layered drawing: give every vertex a layer, so that edges point down and are short.

The total length of the edges is minimised exactly, by the network simplex method of Gansner, Koutsofios, North and Vo,
"A technique for drawing directed graphs" (IEEE Trans. Software Eng. 19, 1993), section 2. Short edges matter more than
few layers here: they put a parameter next to the operation that reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# Above this size the exact method becomes slow; the longest-path layering with sources pulled down is close to it.
LARGEST_EXACT = 4000


def assign_layers(
    count: int, edges: Iterable[tuple[int, int]], weightless: Iterable[tuple[int, int]] = ()
) -> list[int]:
    """The layer of each of `count` vertices, from 0 (top); every edge leads to a larger layer.

    Repeated edges count as often as they occur; `weightless` ones only order their ends. Raises ValueError when the
    edges form a cycle.
    """
    weights: dict[tuple[int, int], int] = dict.fromkeys(weightless, 0)
    for edge in edges:
        weights[edge] = weights.get(edge, 0) + 1
    order = topological_order(count, list(weights))
    layers = _longest_paths(order, list(weights))
    if 1 < count <= LARGEST_EXACT:
        layers = _NetworkSimplex(count, weights, layers).solve()
    else:
        _pull_down_sources(order, weights, layers)
    top = min(layers, default=0)
    return [layer - top for layer in layers]


def topological_order(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The vertices in an order in which every edge leads forward. Raises ValueError when there is a cycle."""
    successors: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for tail, head in edges:
        successors[tail].append(head)
        waiting[head] += 1
    order = [vertex for vertex in range(count) if not waiting[vertex]]
    for vertex in order:
        for head in successors[vertex]:
            waiting[head] -= 1
            if not waiting[head]:
                order.append(head)
    if len(order) < count:
        raise ValueError("a layered drawing needs a graph without cycles")
    return order


def _longest_paths(order: Sequence[int], edges: Sequence[tuple[int, int]]) -> list[int]:
    successors: list[list[int]] = [[] for _ in order]
    for tail, head in edges:
        successors[tail].append(head)
    layers = [0] * len(order)
    for vertex in order:
        for head in successors[vertex]:
            layers[head] = max(layers[head], layers[vertex] + 1)
    return layers


def _pull_down_sources(order: Sequence[int], weights: dict[tuple[int, int], int], layers: list[int]) -> None:
    """Move each vertex that more edges leave than enter down to its first consumer."""
    successors: list[list[int]] = [[] for _ in order]
    balance = [0] * len(order)
    for (tail, head), weight in weights.items():
        successors[tail].append(head)
        balance[tail] += weight
        balance[head] -= weight
    for vertex in reversed(order):
        if successors[vertex] and balance[vertex] >= 0:
            layers[vertex] = min(layers[head] for head in successors[vertex]) - 1


class _NetworkSimplex:
    """Minimises sum(weight * length) over layerings, walking from one tight spanning tree to the next.

    Vertex `count` is an artificial root with weightless edges to all vertices, so that the graph is connected.
    Each vertex but the tree's root keeps the edge to its `parent`; an edge's cut value is the change of the objective
    when it is lengthened. `low` and `last` are the interval of postorder numbers below a vertex.
    """

    def __init__(self, count: int, weights: dict[tuple[int, int], int], layers: Sequence[int]) -> None:
        self.root = count
        self.size = count + 1
        heads = {head for _, head in weights}
        self.tails = [tail for tail, _ in weights]
        self.heads = [head for _, head in weights]
        self.weights = list(weights.values())
        for vertex in range(count):
            if vertex not in heads:
                self.tails.append(count)
                self.heads.append(vertex)
                self.weights.append(0)
        self.layers = [*layers, -1]
        self.incident: list[list[int]] = [[] for _ in range(self.size)]
        for edge, (tail, head) in enumerate(zip(self.tails, self.heads, strict=True)):
            self.incident[tail].append(edge)
            self.incident[head].append(edge)
        self.parent_edge = [-1] * self.size
        self.low = [0] * self.size
        self.last = [0] * self.size
        self.tree: list[set[int]] = [set() for _ in range(self.size)]
        self.cut: dict[int, int] = {}

    def solve(self) -> list[int]:
        self._grow_tight_tree()
        self._number(self.root, 1)
        self._set_cut_values()
        for _ in range(4 * self.size):  # the method may cycle in theory; any tight tree is a valid layering
            leaving = self._leaving_edge()
            if leaving is None:
                break
            self._exchange(leaving, self._entering_edge(leaving))
        return self.layers[: self.root]

    def _slack(self, edge: int) -> int:
        return self.layers[self.heads[edge]] - self.layers[self.tails[edge]] - 1

    def _other_end(self, edge: int, vertex: int) -> int:
        return self.heads[edge] if self.tails[edge] == vertex else self.tails[edge]

    def _grow_tight_tree(self) -> None:
        """Collect a spanning tree of edges of length one, moving the tree where no such edge leaves it."""
        members = [self.root]
        inside = [False] * self.size
        inside[self.root] = True
        grown = 0
        while True:
            while grown < len(members):
                vertex = members[grown]
                grown += 1
                for edge in self.incident[vertex]:
                    other = self._other_end(edge, vertex)
                    if not inside[other] and self._slack(edge) == 0:
                        inside[other] = True
                        members.append(other)
                        self.tree[vertex].add(edge)
                        self.tree[other].add(edge)
            if len(members) == self.size:
                return
            crossing = (edge for edge in range(len(self.tails)) if inside[self.tails[edge]] != inside[self.heads[edge]])
            nearest = min(crossing, key=lambda edge: (self._slack(edge), edge))
            shift = self._slack(nearest) if inside[self.tails[nearest]] else -self._slack(nearest)
            for vertex in members:
                self.layers[vertex] += shift
            grown = 0

    def _number(self, start: int, first: int) -> None:
        """Renew parents and postorder numbers below `start`, whose own parent stays."""
        low, last = self.low, self.last
        counter = first
        stack = [(start, iter(sorted(self.tree[start])))]
        low[start] = first
        while stack:
            vertex, edges = stack[-1]
            for edge in edges:
                if edge == self.parent_edge[vertex]:
                    continue
                child = self._other_end(edge, vertex)
                self.parent_edge[child] = edge
                low[child] = counter
                stack.append((child, iter(sorted(self.tree[child]))))
                break
            else:
                last[vertex] = counter
                counter += 1
                stack.pop()

    def _is_below(self, vertex: int, ancestor: int) -> bool:
        return self.low[ancestor] <= self.last[vertex] <= self.last[ancestor]

    def _set_cut_values(self) -> None:
        for vertex in sorted(range(self.size), key=self.last.__getitem__):
            own = self.parent_edge[vertex]
            if own < 0:
                continue
            is_tail = self.tails[own] == vertex
            total = 0
            for edge in self.incident[vertex]:
                along = (self.tails[edge] == vertex) == is_tail
                value = self.weights[edge]
                if edge != own and edge in self.cut:
                    value -= self.cut[edge]
                total += value if along else -value
            self.cut[own] = total

    def _leaving_edge(self) -> int | None:
        return min((edge for edge in self.cut if self.cut[edge] < 0), key=lambda e: (self.cut[e], e), default=None)

    def _entering_edge(self, leaving: int) -> int:
        """The shortest edge that crosses the cut of `leaving` in the other direction."""
        tail, head = self.tails[leaving], self.heads[leaving]
        subtree_holds_tail = self.last[tail] < self.last[head]
        child = tail if subtree_holds_tail else head
        best, best_slack = -1, 0
        for edge in range(len(self.tails)):
            tail_below = self._is_below(self.tails[edge], child)
            if tail_below == self._is_below(self.heads[edge], child) or tail_below == subtree_holds_tail:
                continue
            slack = self._slack(edge)
            if best < 0 or slack < best_slack:
                best, best_slack = edge, slack
        return best

    def _exchange(self, leaving: int, entering: int) -> None:
        tail, head = self.tails[leaving], self.heads[leaving]
        slack = self._slack(entering)
        child = tail if self.last[tail] < self.last[head] else head
        if slack:
            shift = -slack if child == tail else slack
            for vertex in range(self.size):
                if self._is_below(vertex, child):
                    self.layers[vertex] += shift
        change = self.cut.pop(leaving)
        top = self._add_on_path(self.tails[entering], self.heads[entering], change)
        self._add_on_path(self.heads[entering], self.tails[entering], -change)
        self.cut[entering] = -change
        for end in (tail, head):
            self.tree[end].remove(leaving)
        for end in (self.tails[entering], self.heads[entering]):
            self.tree[end].add(entering)
        self._number(top, self.low[top])

    def _add_on_path(self, start: int, end: int, change: int) -> int:
        """Adjust the cut values from `start` up to the lowest common ancestor with `end`, which is returned."""
        vertex = start
        while not self._is_below(end, vertex):
            edge = self.parent_edge[vertex]
            if edge in self.cut:
                self.cut[edge] += change if self.tails[edge] == vertex else -change
            vertex = self._other_end(edge, vertex)
        return vertex
