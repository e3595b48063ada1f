"""Which keys a query can see at all, as far as that follows from positions alone: causal attention and windows."""

from __future__ import annotations

from collections.abc import Iterator

from backends.kernels.attention_frame import Frame
from backends.kernels.attention_terms import Terms
from backends.kernels.index import Axis, Index

Band = tuple[int | None, int | None]

EVERYTHING: Band = (None, None)
# A finite score below this is one of a masked pair: its exponential is zero beside that of any other score.
_MASKED = -1e30
_SWAPPED = {"le": "ge", "lt": "gt", "ge": "le", "gt": "lt"}


def find_band(terms: Terms, frame: Frame, scores: int, rows: frozenset[Axis]) -> tuple[Band, int]:
    """Bounds of key - query outside of which no pair has any weight, and the axis of the scores that counts queries.

    It is found where scores are `where(visible, ..., masked)` and `visible` compares positions, perhaps together with
    other conditions; or where such a choice is added to them.
    """
    found = _Band(terms, frame, rows)
    found.look_at(scores)
    if found.row is None or found.band == EVERYTHING:
        return EVERYTHING, -1
    return found.band, found.row


class _Band:
    def __init__(self, terms: Terms, frame: Frame, rows: frozenset[Axis]):
        self.terms, self.frame, self.rows = terms, frame, rows
        self.band: Band = EVERYTHING
        self.row: int | None = None

    def look_at(self, scores: int) -> None:
        t = self.terms
        masked: float | None = -float("inf")
        chosen = t.operation(scores, "select_n")
        if chosen is None:
            for part in t.operation(scores, "add") or ():
                choice = t.operation(part, "select_n")
                if choice is not None and len(choice) == 3 and t.constant(choice[2]) == 0:
                    if t.constant(choice[1]) == masked:
                        self._use(choice[0], whole=False)
            return
        if len(chosen) != 3:
            return
        which, masked_term, _ = chosen
        masked = t.constant(masked_term)
        if masked == -float("inf"):
            self._use(which, whole=False)
        elif isinstance(masked, float) and masked < _MASKED:
            # a row in which all are masked has equal weights everywhere: there must be no such row
            self._use(which, whole=True)

    def _use(self, condition: int, whole: bool) -> None:
        bounds = []
        others = 0
        for part in self._conjuncts(condition):
            found = self._bound(part)
            if found is None:
                others += 1
            else:
                bounds.append(found)
        rows = {row for row, _, _ in bounds}
        if len(rows) != 1:
            return
        low = max((b for _, b, _ in bounds if b is not None), default=None)
        high = min((b for _, _, b in bounds if b is not None), default=None)
        (row,) = rows
        if whole and (others or not self._never_empty(row, low, high)):
            return
        self.band, self.row = (low, high), row

    def _never_empty(self, row: int, low: int | None, high: int | None) -> bool:
        """Whether each query sees a key."""
        queries = next(a.size for a in self.frame.scores[row].atoms() if isinstance(a, Axis))
        last_first = queries - 1 + low if low is not None else 0
        return (high is None or high >= 0) and (low is None or low <= 0) and last_first < self.terms.column_axis.size

    def _conjuncts(self, condition: int) -> Iterator[int]:
        t = self.terms
        both = t.operation(condition, "and")
        if both is not None:
            for part in both:
                yield from self._conjuncts(part)
            return
        choice = t.operation(condition, "select_n")
        if choice is not None and len(choice) == 3 and t.constant(choice[1]) is False and t.constant(choice[2]) is True:
            yield from self._conjuncts(choice[0])
            return
        yield condition

    def _bound(self, condition: int) -> tuple[int, int | None, int | None] | None:
        """The axis of the scores and (low, high), if a condition is a bound of key - query."""
        key = self.terms.keys[condition]
        if key[0] != "op" or key[1] not in _SWAPPED:
            return None
        name = key[1]
        sides = [self._integer(a) for a in key[3:]]
        if sides[0] is None or sides[1] is None:
            return None
        difference = sides[0] - sides[1]  # compared with 0
        if difference.terms.get(self.terms.column_axis, 0) == -1:
            difference, name = -difference, _SWAPPED[name]
        rest = difference - self.terms.column
        if len(rest.terms) != 1 or difference.terms.get(self.terms.column_axis, 0) != 1:
            return None
        ((axis, c),) = rest.terms.items()
        if c != -1 or axis not in self.rows:
            return None
        row = next((k for k, i in enumerate(self.frame.scores) if i.terms == {axis: 1} and not i.constant), None)
        if row is None:
            return None
        # column - row + constant <= 0
        limit = -rest.constant
        if name in ("le", "lt"):
            return row, None, limit - (name == "lt")
        return row, limit + (name == "gt"), None

    def _integer(self, term: int) -> Index | None:
        """A term as an index."""
        t = self.terms
        kind, *rest = t.keys[term]
        if kind == "iota":
            return rest[0]
        if kind == "constant":
            return Index({}, rest[2]) if isinstance(rest[2], int) and not isinstance(rest[2], bool) else None
        if kind != "op" or rest[0] not in ("add", "sub", "neg", "convert_element_type"):
            return None
        first, *others = [self._integer(a) for a in rest[2:]]
        if first is None or rest[0] == "convert_element_type":
            return first
        if rest[0] == "neg":
            return -first
        (second,) = others
        if second is None:
            return None
        return first + second if rest[0] == "add" else first - second
