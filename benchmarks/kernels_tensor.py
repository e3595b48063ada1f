"""How fast and how exact matrix products on tensor cores are, by tile and precision.

    pip install 'asgfn[dawn]'
    python -m benchmarks.kernels_tensor                            # 1024 and 4096, all tiles that fit
    python -m benchmarks.kernels_tensor 4096 --precision high      # one size, one precision
    python -m benchmarks.kernels_tensor 8192 1536 384              # m n k
    python -m benchmarks.kernels_tensor 4096 --tile 128,128,32,64,64 --tile 128,128,16,64,64,2,1,8
    python -m benchmarks.kernels_tensor 4096 --transpose b         # x @ w.T
    python -m benchmarks.kernels_tensor 4096 --data lognormal
    python -m benchmarks.kernels_tensor 256 --source               # prints the fastest one's WGSL

A tile is rows,columns,depth,part rows,part columns[,buffers[,split[,padding]]]. Precisions are "f16" (16-bit operands),
"default", "high", and "highest" (no tensor cores; the fastest of the usual tiles). Seconds are those of one product in a long
row of them: the difference between many and few, so that submitting does not count; "alone" is the product without the
kernel that finds the scales. The error is that of 64 rows, against float64: the largest relative to the largest result, and
the root of the mean square of both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from asgfn.records import replace

SIZES = ((1024, 1024, 1024), (4096, 4096, 4096))
PRECISIONS = ("f16", "default", "high", "highest")
CHECKED = 64  # rows


class Bench:
    """A device that has tensor cores, and runs of plans on it."""

    def __init__(self) -> None:
        os.environ.setdefault("ASGFN_WGPU_IMPLEMENTATION", "dawn")
        import asgfn
        from backends.wgpu.device import Device
        from backends.wgpu.package import package

        self.asgfn = asgfn
        self.device = Device()
        self.gpu, self.target = self.device.gpu, self.device.target
        flags = package().BufferUsage
        self.usage = flags.STORAGE | flags.COPY_SRC | flags.COPY_DST

    def region(self, sizes: Sequence[int], precision: str, transpose: str) -> Any:
        import asgfn.numpy as jnp
        from backends.kernels.schedules.contraction import Region

        m, n, k = sizes
        dtype = np.float16 if precision == "f16" else np.float32
        shapes = [(k, m) if "a" in transpose else (m, k), (n, k) if "b" in transpose else (k, n)]

        def f(x: Any, y: Any) -> Any:
            x, y = (a.T if name in transpose else a for a, name in ((x, "a"), (y, "b")))
            return jnp.matmul(
                x,
                y,
                precision=None if precision == "f16" else precision,
                preferred_element_type=np.float32,
            )

        args = [self.asgfn.ShapeDtypeStruct(s, dtype) for s in shapes]
        return Region(self.asgfn.simplify(self.asgfn.trace(f)(*args)), self.target.types)

    def run(
        self, region: Any, plan: Any, inputs: Sequence[np.ndarray], budget: float
    ) -> tuple[float, float, np.ndarray]:
        """Seconds of a product, of its kernels but the one that finds scales, and the first rows of the result."""
        asg = region.asg
        memory = {
            ("input", k): self._filled(x.astype(self.target.types.numpy_storage(x.dtype))) for k, x in enumerate(inputs)
        }
        memory["output", 0] = self._blank(4 * asg.out_types[0].size)
        memory |= {("temporary", k): self._blank(4 * size) for k, (_, size) in enumerate(plan.temporaries)}
        try:
            steps = list(self._steps(plan, memory))
            last = memory["output", 0]
            whole = self._seconds(steps, last, budget)
            alone = whole
            if plan.stages[0].kernel.name.endswith(" maxima"):
                alone = self._seconds(steps[1:], last, budget)
            rows, columns = asg.out_types[0].shape
            count = min(rows, CHECKED)
            data = self.gpu.queue.read_buffer(last, 0, 4 * count * columns)
            return whole, alone, np.frombuffer(data, np.float32).reshape(count, columns)
        finally:
            for buffer in memory.values():
                buffer.destroy()

    def _filled(self, data: np.ndarray) -> Any:
        return self.gpu.create_buffer_with_data(data=data, usage=self.usage)

    def _blank(self, size: int) -> Any:
        return self.gpu.create_buffer(size=max(16, size), usage=self.usage)

    def _steps(self, plan: Any, memory: dict) -> Iterator[tuple[Any, Any, tuple[int, int, int]]]:
        from backends.wgpu.device import Kernel
        from backends.wgsl import source

        for stage in plan.stages:
            written = tuple(m.written for m in stage.kernel.memories)
            text = source(stage.kernel, self.device.implementation.dialect)
            (pipeline,) = self.device.pipelines([Kernel(text, written)])
            entries = [
                {"binding": k, "resource": {"buffer": memory[tuple(a)], "offset": 0, "size": memory[tuple(a)].size}}
                for k, a in enumerate(stage.arguments)
            ]
            yield (
                pipeline.native,
                self.gpu.create_bind_group(layout=pipeline.layout, entries=entries),
                stage.kernel.grid,
            )

    def _seconds(self, steps: list, last: Any, budget: float) -> float:
        self._once(steps, last, 1)
        once = self._once(steps, last, 2)
        count = max(2, min(400, int(budget / 5 / max(once, 1e-5))))
        return statistics.median(
            (self._once(steps, last, 1 + count) - self._once(steps, last, 1)) / count for _ in range(5)
        )

    def _once(self, steps: list, last: Any, count: int) -> float:
        encoder = self.gpu.create_command_encoder()
        work = encoder.begin_compute_pass()
        for _ in range(count):
            for pipeline, group, grid in steps:
                work.set_pipeline(pipeline)
                work.set_bind_group(0, group)
                work.dispatch_workgroups(*grid)
        work.end()
        commands = encoder.finish()
        self.gpu.queue.read_buffer(last, 0, 4)
        started = time.perf_counter()
        self.gpu.queue.submit([commands])
        self.gpu.queue.read_buffer(last, 0, 4)
        return time.perf_counter() - started


def schedules(bench: Bench, region: Any, precision: str, wanted: Sequence[Any]) -> list[Any]:
    """What is timed."""
    from backends.kernels.autotune import TENSOR_TILES, candidates
    from backends.kernels.schedules.contraction import problem_of
    from backends.kernels.schedules.matmul_tensor import fits
    from backends.kernels.schedules.tensor_pieces import pieces_of

    pieces = pieces_of(region, bench.target)
    if pieces is None:
        return candidates(problem_of(region), bench.target)[:3]
    tiles = wanted or [replace(t, subgroup=bench.target.subgroup[0]) for t in TENSOR_TILES]
    for tile in wanted:
        if not fits(tile, pieces, bench.target):
            print(f"  does not fit: {tile}")
    return [t for t in tiles if fits(t, pieces, bench.target)]


def report(bench: Bench, sizes: Sequence[int], options: argparse.Namespace) -> None:
    from backends.kernels.autotune import choose
    from backends.kernels.schedules.contraction import problem_of, scheduled
    from backends.wgsl import source

    m, n, k = sizes
    draw = DATA[options.data]
    for precision in options.precision or PRECISIONS:
        region = bench.region(sizes, precision, options.transpose)
        chosen = choose(problem_of(region, bench.target), bench.target)
        inputs = [draw(np.random.default_rng(j), t.shape).astype(t.dtype) for j, t in enumerate(region.asg.inputs)]
        x = inputs[0].T if "a" in options.transpose else inputs[0]
        y = inputs[1].T if "b" in options.transpose else inputs[1]
        exact = x[:CHECKED].astype(np.float64) @ y.astype(np.float64)
        print(f"{m} x {n} x {k}, {precision}, {options.data} data", flush=True)
        best = None
        for schedule in schedules(bench, region, precision, options.tile):
            plan = scheduled(region, schedule, bench.target)
            try:
                whole, alone, found = bench.run(region, plan, inputs, options.seconds)
            except bench.asgfn.errors.BackendError as error:
                print(f"  fails: {schedule}: {str(error).splitlines()[0][:200]}", flush=True)
                continue
            difference = found - exact
            largest = float(np.max(np.abs(difference)) / np.max(np.abs(exact)))
            mean = float(np.sqrt(np.mean(difference**2) / np.mean(exact**2)))
            rate = 2e-12 * m * n * k
            print(
                f"{'*' if schedule == chosen else ' '} {whole * 1e6:10.1f} us {rate / whole:7.1f} TFLOP/s"
                f" (alone {rate / alone:7.1f})  error {largest:.1e}, mean {mean:.1e}  {schedule}",
                flush=True,
            )
            if best is None or whole < best[0]:
                best = whole, plan
        if options.source and best is not None:
            for stage in best[1].stages:
                print(source(stage.kernel, bench.device.implementation.dialect))


DATA: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape, np.float32),
    "uniform": lambda rng, shape: rng.random(shape, np.float32),
    "lognormal": lambda rng, shape: np.exp(4 * rng.standard_normal(shape, np.float32)),
    "small": lambda rng, shape: 1e-6 * rng.standard_normal(shape, np.float32),
}


def parse_tile(text: str) -> Any:
    from backends.kernels.schedules.tiles import TensorTile

    numbers = [int(n) for n in text.split(",")]
    tile = TensorTile(*numbers[:7])
    return replace(tile, padding=numbers[7]) if len(numbers) > 7 else tile


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels_tensor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sizes", type=int, nargs="*", help="n, or m n k")
    parser.add_argument("--precision", choices=PRECISIONS, action="append")
    parser.add_argument("--transpose", default="", help="which operands are stored transposed: a, b or ab")
    parser.add_argument("--data", choices=DATA, default="normal")
    parser.add_argument("--tile", type=parse_tile, action="append", default=[])
    parser.add_argument("--seconds", type=float, default=0.3, help="of each measurement")
    parser.add_argument("--source", action="store_true")
    options = parser.parse_args()
    bench = Bench()
    print(bench.device.adapter, bench.target.subgroup_matrix, flush=True)
    sizes = [options.sizes] if len(options.sizes) == 3 else [(n, n, n) for n in options.sizes] or SIZES
    for each in sizes:
        report(bench, each, options)


if __name__ == "__main__":
    main()
