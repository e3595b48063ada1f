"""How fast matrix products and convolutions are with each schedule, without the rest of a program.

    python -m benchmarks.kernels_matmul 4096 4096 4096               # m n k: all candidates
    python -m benchmarks.kernels_matmul 1024 1024 1024 --transpose b # x @ w.T
    python -m benchmarks.kernels_matmul 256 256 64 --batch 192
    python -m benchmarks.kernels_matmul 4096 4096 4096 --tile 128,128,16,8,8,2 --tile 128,128,32,8,8,1,1,16,0
    python -m benchmarks.kernels_matmul --conv 64 64 56 56 64 3 1    # batch channels height width features window stride
    python -m benchmarks.kernels_matmul 1024 1024 1024 --source      # prints the fastest one's WGSL

A tile is rows,columns,depth,thread rows,thread columns[,buffers[,split[,unroll[,blocks]]]]. Seconds are those of one
product in a long row of them on the device: the difference between many and few, so that submitting does not count.
Set ASGFN_WGPU_ADAPTER=software to try the script where there is no GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from asgfn.records import replace

SIZES = ((4096, 4096, 4096), (1024, 1024, 1024))


def region_of(f: Callable, shapes: Sequence[tuple[int, ...]], types: Any) -> Any:
    """The contraction that a function is."""
    import asgfn
    from backends.kernels.schedules.contraction import Region

    asg = asgfn.simplify(asgfn.trace(f)(*(asgfn.ShapeDtypeStruct(s, np.float32) for s in shapes)))
    return Region(asg, types)


class Bench:
    """A device, and operands on it."""

    def __init__(self) -> None:
        import wgpu

        from backends.wgpu.device import Device

        self.device = Device()
        self.gpu, self.target = self.device.gpu, self.device.target
        self.usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
        self.rng = np.random.default_rng(0)

    def seconds(self, region: Any, schedule: Any, budget: float = 0.5) -> tuple[float, list[np.ndarray], Any]:
        """Seconds of one run, the results, and the plan."""
        from backends.kernels.schedules.contraction import scheduled

        plan = scheduled(region, schedule, self.target)
        asg = region.asg
        self.inputs = [
            np.random.default_rng(k).normal(size=t.shape).astype(np.float32) for k, t in enumerate(asg.inputs)
        ]
        memory = {
            ("input", k): self.gpu.create_buffer_with_data(data=x, usage=self.usage) for k, x in enumerate(self.inputs)
        }
        memory |= {("output", k): self._blank(t.size) for k, t in enumerate(asg.out_types)}
        memory |= {("temporary", k): self._blank(size) for k, (_, size) in enumerate(plan.temporaries)}
        steps = self._steps(plan, memory)
        once = self._run(steps, 1)
        count = max(2, min(200, int(budget / 3 / max(once, 1e-5))))
        times = []
        for _ in range(5):
            few, many = self._run(steps, 1), self._run(steps, 1 + count)
            times.append((many - few) / count)
        results = [
            np.frombuffer(self.gpu.queue.read_buffer(memory["output", k], 0, 4 * t.size), np.float32).reshape(t.shape)
            for k, t in enumerate(asg.out_types)
        ]
        for buffer in memory.values():
            buffer.destroy()
        return statistics.median(times), results, plan

    def _blank(self, size: int) -> Any:
        return self.gpu.create_buffer(size=max(16, 4 * size), usage=self.usage)

    def _steps(self, plan: Any, memory: dict) -> list[tuple[Any, Any, tuple[int, int, int]]]:
        from backends.wgpu.device import Kernel
        from backends.wgsl import source

        steps = []
        for stage in plan.stages:
            written = tuple(m.written for m in stage.kernel.memories)
            (pipeline,) = self.device.pipelines([Kernel(source(stage.kernel), written)])
            buffers = [memory[tuple(a)] for a in stage.arguments]
            group = self.device.bind_group(pipeline.layout, [(SimpleNamespace(buffer=b), 0, b.size) for b in buffers])
            steps.append((pipeline.native, group, stage.kernel.grid))
        self.last = memory[tuple(plan.stages[-1].arguments[-1])]
        return steps

    def _run(self, steps: list, count: int) -> float:
        encoder = self.gpu.create_command_encoder()
        work = encoder.begin_compute_pass()
        for _ in range(count):
            for pipeline, group, grid in steps:
                work.set_pipeline(pipeline)
                work.set_bind_group(0, group)
                work.dispatch_workgroups(*grid)
        work.end()
        commands = encoder.finish()
        self.gpu.queue.read_buffer(self.last, 0, 4)
        started = time.perf_counter()
        self.gpu.queue.submit([commands])
        self.gpu.queue.read_buffer(self.last, 0, 4)
        return time.perf_counter() - started


def report(bench: Bench, f: Callable, shapes: Sequence[tuple[int, ...]], wanted: Sequence[Any], show: bool) -> None:
    """Prints TFLOP/s for each schedule, and how far each is from the first's result."""
    from backends.kernels.autotune import candidates, choose
    from backends.kernels.schedules.contraction import problem_of
    from backends.wgsl import source

    region = region_of(f, shapes, bench.target.types)
    problem = problem_of(region)
    schedules = list(wanted) or candidates(problem, bench.target)
    chosen = choose(problem, bench.target)
    print(f"{bench.device.info.device_kind}: {problem}", flush=True)
    first, best = None, None
    for schedule in schedules:
        seconds, results, plan = bench.seconds(region, schedule)
        first = results[0] if first is None else first
        error = float(np.max(np.abs(results[0] - first)) / np.max(np.abs(first)))
        mark = "*" if schedule == chosen else " "
        print(
            f"{mark} {seconds * 1e6:10.1f} us  {problem.flops / seconds / 1e12:8.3f} TFLOP/s  error {error:.1e}  {schedule}",
            flush=True,
        )
        best = min(best or (seconds, plan), (seconds, plan), key=lambda pair: pair[0])
    if show and best is not None:
        for stage in best[1].stages:
            print(source(stage.kernel))


def parse_tile(text: str) -> Any:
    from backends.kernels.schedules.tiles import Tile

    numbers: list[Any] = [int(n) for n in text.split(",")]
    return replace(Tile(*numbers[:8]), blocks=len(numbers) < 9 or numbers[8] != 0)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels_matmul",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sizes", type=int, nargs="*", help="m n k")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--transpose", default="", help="which operands are stored transposed: a, b or ab")
    parser.add_argument(
        "--conv", type=int, nargs=7, metavar="N", help="batch channels height width features window stride"
    )
    parser.add_argument("--gradient", choices=["input", "kernel"], help="of the convolution")
    parser.add_argument("--tile", type=parse_tile, action="append", default=[])
    parser.add_argument("--source", action="store_true")
    options = parser.parse_args()
    bench = Bench()
    if options.conv:
        report(bench, *convolution(options.conv, options.gradient), options.tile, options.source)
        return
    for m, n, k in [options.sizes] if options.sizes else SIZES:
        report(bench, *product(m, n, k, options.batch, options.transpose), options.tile, options.source)


def product(m: int, n: int, k: int, batch: int, transpose: str) -> tuple[Callable, list[tuple[int, ...]]]:
    lead = (batch,) if batch > 1 else ()
    shapes = [(*lead, *((k, m) if "a" in transpose else (m, k))), (*lead, *((n, k) if "b" in transpose else (k, n)))]

    def f(x: Any, y: Any) -> Any:
        return (x.swapaxes(-1, -2) if "a" in transpose else x) @ (y.swapaxes(-1, -2) if "b" in transpose else y)

    return f, shapes


def convolution(sizes: Sequence[int], gradient: str | None) -> tuple[Callable, list[tuple[int, ...]]]:
    import asgfn
    import asgfn.numpy as jnp
    from asgfn import lax

    batch, channels, height, width, features, window, stride = sizes
    low = window // 2
    # the kernel in the order that `backends.kernels.schedules.contraction` brings it into first
    layout, kernel = ("IHWO", (channels, window, window, features))
    if gradient == "input":
        layout, kernel = ("OHWI", (features, window, window, channels))
    shapes: list[tuple[int, ...]] = [(batch, channels, height, width), kernel]

    def f(x: Any, w: Any) -> Any:
        padding = ((low, low), (low, low))
        return lax.conv_general_dilated(x, w, (stride, stride), padding, dimension_numbers=("NCHW", layout, "NCHW"))

    if gradient is None:
        return f, shapes
    out = (batch, features, *((n + 2 * low - window) // stride + 1 for n in (height, width)))
    which = 0 if gradient == "input" else 1

    def of(ct: Any, other: Any) -> Any:
        blank = jnp.zeros(shapes[which], np.float32)
        g = (lambda v: f(v, other)) if which == 0 else (lambda v: f(other, v))
        return asgfn.vjp(g, blank)[1](ct)[0]

    return of, [out, shapes[1 - which]]


def ours() -> dict[str, float]:
    bench = Bench()
    figures = {}
    for m, n, k in SIZES:
        from backends.kernels.autotune import choose
        from backends.kernels.schedules.contraction import problem_of

        region = region_of(*product(m, n, k, 1, ""), bench.target.types)
        figures[f"{m}x{n}x{k}, seconds"] = bench.seconds(region, choose(problem_of(region), bench.target))[0]
    return figures


VARIANTS = {"ours": ours}

if __name__ == "__main__":
    main()
