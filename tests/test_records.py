"""Records: what `asgfn.records` makes of a class."""

from __future__ import annotations

import pickle
from functools import cached_property

import pytest

from asgfn.records import field, fields, record, replace


@record
class Point:
    x: int
    y: int = 2

    @cached_property
    def total(self) -> int:
        return self.x + self.y


@record
class Solid(Point):
    z: int = 3
    note: str = field(default="", compare=False, repr=False)


@record(frozen=False)
class Bag:
    name: str
    things: list = field(default_factory=list)


@record(eq=False)
class Place:
    name: str


def test_fields_come_from_annotations_bases_first():
    assert fields(Solid) == ("x", "y", "z", "note")
    assert (Solid(1).x, Solid(1).y, Solid(1).z) == (1, 2, 3)
    assert Solid(1, z=7).z == 7 and Point(1).total == 3


def test_equality_is_of_the_fields_within_a_class():
    assert Point(1) == Point(1, 2) and hash(Point(1)) == hash(Point(1, 2))
    assert Point(1) != Point(2) and Point(1) != Solid(1)
    assert Solid(1, note="a") == Solid(1, note="b") and hash(Solid(1, note="a")) == hash(Solid(1, note="b"))
    assert Place("a") != Place("a") and len({Place("a"), Place("a")}) == 2


def test_what_is_assigned_to_has_no_hash():
    first, second = Bag("a"), Bag("a")
    first.things.append(1)
    assert first != second and second.things == []
    with pytest.raises(TypeError, match="unhashable"):
        hash(first)


def test_shown_and_replaced():
    assert repr(Solid(1, note="hidden")) == "Solid(x=1, y=2, z=3)"
    assert replace(Solid(1, note="n"), y=5) == Solid(1, 5) and replace(Solid(1, note="n"), y=5).note == "n"
    with pytest.raises(TypeError, match="w"):
        replace(Point(1), w=1)


def test_wrong_arguments_name_the_class():
    with pytest.raises(TypeError, match=r"Point.__init__\(\) missing 1 required positional argument: 'x'"):
        Point()
    with pytest.raises(TypeError, match="unexpected keyword argument 'q'"):
        Bag("a", q=1)


def test_own_methods_stay():
    @record
    class Named:
        name: str

        def __repr__(self) -> str:
            return f"<{self.name}>"

        def __hash__(self) -> int:
            return 7

    assert repr(Named("n")) == "<n>" and hash(Named("n")) == 7 and Named("n") == Named("n")


def test_patterns_and_pickles():
    match Point(4, 5):
        case Point(x, y):
            assert (x, y) == (4, 5)
    assert pickle.loads(pickle.dumps(Solid(1, 2, 9))) == Solid(1, 2, 9)


def test_later_instances_are_as_the_first_ones():
    @record
    class Own:
        x: int
        y: int = 2
        many: list = field(default_factory=list)

    for _ in range(40):
        one, other = Own(1, many=[3]), Own(y=4, x=3)
        assert (one.x, one.y, one.many) == (1, 2, [3]) and (other.x, other.y, other.many) == (3, 4, [])
    with pytest.raises(TypeError, match="multiple values"):
        Own(1, x=1)
