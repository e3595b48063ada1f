"""Measuring which schedule of a contraction is the fastest on this GPU.

It happens when a program is compiled, and only if the setting `autotune` is on (`ASGFN_AUTOTUNE=1`). A contraction of each
class of shapes is timed as part of the region that it is in, on arrays of its sizes. What was measured once is always used
afterwards; see `backends.wgpu.measurements`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from asgfn.graph.asg import Asg, Node, inner_graphs
from asgfn.graph.types import ArrayType
from asgfn.records import replace
from backends.kernels.autotune import Asked, Problem, candidates
from backends.kernels.elements import Unsupported
from backends.kernels.lowering import Plan, lower, single
from backends.kernels.target import Target
from backends.programs.finish import finish
from backends.wgpu.buffers import DeviceBuffer, upload
from backends.wgpu.built import Built
from backends.wgpu.compiling import machine_of
from backends.wgpu.device import Device
from backends.wgpu.errors import BackendError
from backends.wgpu.measurements import Times, remember
from backends.wgpu.profiling import profile

CONTRACTIONS = ("dot_general", "conv_general_dilated")
LEAST_FLOPS = 1 << 26  # smaller contractions are not worth the time
REPEATS = 8
_PATTERN = 1 << 16  # numbers of an array that is repeated to fill a larger one
_log = logging.getLogger("asgfn")


def tune(device: Device, graph: Asg) -> None:
    """Measures the contractions of a partitioned graph that are large and were not measured yet."""
    found: dict[str, Times] = {}
    for node, in_types in _contractions(graph):
        for problem in _problems(node, in_types, device.target):
            key = problem.key()
            if key in device.measured or problem.flops < LEAST_FLOPS:
                continue
            device.measured[key] = found[key] = times = _measured(device, node, in_types, problem)
            if times:
                best = min(times, key=times.__getitem__)
                _log.info("autotune: %s: %s, %.1f us", key, best, 1e6 * times[best])
    if found:
        remember(device.adapter, found)


def _contractions(graph: Asg) -> Iterator[tuple[Node, list[ArrayType]]]:
    """The nodes that are contractions, with the types of their operands; also of loops and branches."""
    types = graph.value_types
    for node in graph.nodes:
        if node.primitive.name in CONTRACTIONS or node.params.get("kind") == "contraction":
            yield node, [types[i] for i in node.inputs]
        else:
            for inner in inner_graphs(node.params):
                yield from _contractions(inner)


def _problems(node: Node, in_types: Sequence[ArrayType], target: Target) -> list[Problem]:
    asked = Asked()
    _plan(node, in_types, replace(target, measured=asked))
    return list(dict.fromkeys(asked.problems))


def _plan(node: Node, in_types: Sequence[ArrayType], target: Target) -> Plan | None:
    try:
        return lower(node, in_types, target)
    except Unsupported:
        return None


def _measured(device: Device, node: Node, in_types: Sequence[ArrayType], problem: Problem) -> Times:
    """Seconds of the schedules that may be the fastest; of those that the device takes."""
    times: Times = {}
    arguments: list[DeviceBuffer] = []
    for schedule in candidates(problem, device.target):
        plan = _plan(node, in_types, replace(device.target, measured={problem.key(): {schedule: 0.0}}))
        if plan is None:
            return {}
        try:
            arguments = arguments or [upload(device, _numbers(t)) for t in in_types]
            times[schedule] = _seconds(device, node, in_types, plan, arguments)
        except BackendError as error:
            _log.debug("autotune: %s: %s", schedule, error)
    return times


def _seconds(
    device: Device, node: Node, in_types: Sequence[ArrayType], plan: Plan, arguments: Sequence[DeviceBuffer]
) -> float:
    """How long the GPU takes for a plan of a node."""
    graph, donated = single(node, in_types), [False] * len(in_types)
    built = Built(device, finish(graph, machine_of(device.target), donated, plan_of=lambda *_: plan))
    if device.has_timestamps:
        return profile(built, lambda: list(arguments), REPEATS).total
    built(arguments)
    device.recorder.wait()
    started = time.perf_counter()
    for _ in range(REPEATS):
        built(arguments)
    device.recorder.wait()
    return (time.perf_counter() - started) / REPEATS


def _numbers(t: ArrayType) -> np.ndarray:
    """An array of a type: floats of a size that occurs, else zeros, which are valid indices."""
    if t.dtype.kind in "biu":
        return np.zeros(t.shape, t.dtype)
    pattern: Any = np.random.default_rng(0).standard_normal(min(t.size, _PATTERN)).astype(np.float32)
    return np.resize(pattern.astype(t.dtype), t.shape)
