"""What comes out of compiling."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from asgfn.graph.types import ArrayType
from backends.programs.steps import Dispatch, Storage


class Finished(NamedTuple):
    """A program, ready to be bound to memory.

    Attributes:
        steps: what it does.
        inputs: for each argument its memory, or the slot of its host array.
        outputs: for each result its memory, or the slot of its host array.
        in_types, out_types: types of the arguments and of the results.
        new: storages of results that need memory of their own in each call.
        overwritten: numbers of the donated inputs that are written to.
        temporaries: sizes of the memories that only live inside.
        constants: arrays in the device's representation.
        slots: how many host arrays there are; fixed: those that never change.
        kernels: all dispatches, in order.
    """

    steps: list[Any]
    inputs: list[Storage | int]
    outputs: list[Storage | int]
    in_types: tuple[ArrayType, ...]
    out_types: tuple[ArrayType, ...]
    new: list[Storage]
    overwritten: frozenset[int]
    temporaries: list[int]
    constants: dict[int, np.ndarray]
    slots: int
    fixed: dict[int, np.ndarray]
    kernels: list[Dispatch]
