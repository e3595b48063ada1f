"""Where the time of a program's first call goes: the training step of `benchmarks.gpu_gpt`, cold and from the disk.

    python -m benchmarks.gpu_compile

Each row is a process of its own. "cold" has no files of earlier processes (but maybe the driver's own), "warm" has them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any


def _measure() -> dict[str, Any]:
    """Seconds of each phase, of processor time and as time passes; and the kernels that the driver takes longest for."""
    import asgfn
    import asgfn.numpy as jnp
    from asgfn import lax
    from asgfn.backend import get_backend
    from benchmarks.gpt import training_step
    from benchmarks.gpu_gpt import SIZES

    figures: dict[str, Any] = {}

    def phase(name: str, f: Callable[[], Any]) -> Any:
        clock, processor = time.perf_counter(), time.process_time()
        made = f()
        figures[name] = time.perf_counter() - clock, time.process_time() - processor
        return made

    step = asgfn.jit(training_step(asgfn, jnp, lax, SIZES), donate_argnums=(0, 1, 2), backend="wgpu")
    put = lambda tree: asgfn.tree.map(jnp.asarray, tree)
    zeros = lambda: asgfn.tree.map(jnp.zeros_like, put(SIZES.parameters()))
    arguments = (put(SIZES.parameters()), zeros(), zeros(), jnp.float32(0), *put(SIZES.data()))

    def first_call() -> None:
        lowered = phase("trace", lambda: step.lower(*arguments))
        backend: Any = phase("open the GPU", lambda: get_backend("wgpu"))
        device = backend.device
        begin = device._workers.submit

        def submit(compile_: Callable[[], Any]) -> Any:
            def timed() -> Any:
                started = time.perf_counter()
                made = compile_()
                kernels.append(time.perf_counter() - started)
                return made

            return begin(timed)

        device._workers.submit = submit
        phase("compile", lambda: lowered.compile().executable.built)
        phase("first run", lambda: float(step(*arguments)[4]))

    kernels: list[float] = []
    phase("first call", first_call)
    from backends.programs.cache import counts

    kernels.sort(reverse=True)
    figures["driver, all kernels one by one"] = sum(kernels), 0.0
    return {"figures": figures, "hits": counts["hits"], "kernels": len(kernels), "slowest": kernels[:5]}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "warm"):
            environment = {**os.environ, "ASGFN_CACHE": folder}
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.gpu_compile", "measure"],
                env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                sys.exit(done.stderr)
            found = json.loads(done.stdout.strip().splitlines()[-1])
            print(f"{name}: {found['kernels']} kernels, {found['hits']} programs from the disk")
            for phase, (clock, processor) in found["figures"].items():
                print(f"  {phase:32} {clock:7.3f} s" + (f"   {processor:7.3f} s of processor" if processor else ""))
            print("  slowest kernels: " + ", ".join(f"{s:.3f} s" for s in found["slowest"]))


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        print(json.dumps(_measure()))
    else:
        main()
