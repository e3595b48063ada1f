"""Runs a benchmark: every variant in a process of its own, interleaved, several rounds; prints medians and ratios.

    python -m benchmarks                 # lists the benchmarks
    python -m benchmarks mlp             # runs one
    python -m benchmarks mlp --rounds 5 --json mlp.json

A benchmark is a module with `VARIANTS`: a dict from a name to a function that returns figures (seconds, bytes, counts) by
name, and perhaps `ENVIRONMENT`: variables that its processes get. The first variant is ours; ratios are ours / theirs. A
variant whose library is not installed is skipped, and said so. `AGREE` says which figures must be everybody's, and how
nearly (relative): it is an error if they are not. Where `WARM` is true, each process starts with nothing cached on disk, and
a second one makes the first calls again with what the first has left there.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import json
import os
import pkgutil
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.timing import FIRST_ONLY, STARTED

MARK = "BENCHMARK-RESULT "
SHARED = ("gpt", "libraries", "resnet", "rows", "timing", "training")  # modules here that are no benchmarks


def names() -> list[str]:
    """All benchmarks."""
    here = Path(__file__).parent
    return sorted(
        m.name for m in pkgutil.iter_modules([str(here)]) if not m.name.startswith("_") and m.name not in SHARED
    )


def worker(benchmark: str, variant: str) -> None:
    """Runs one variant once, in this process."""
    module = importlib.import_module(f"benchmarks.{benchmark}")
    try:
        figures = module.VARIANTS[variant]()
    except ModuleNotFoundError as error:
        figures = {"missing": error.name}
    print(MARK + json.dumps(figures))


def run_once(benchmark: str, variant: str) -> dict[str, Any]:
    module = importlib.import_module(f"benchmarks.{benchmark}")
    environment = {"JAX_PLATFORMS": "cpu", "ASGFN_DEFAULT_BACKEND": "numpy", **getattr(module, "ENVIRONMENT", {})}
    if not getattr(module, "WARM", False):
        return run_worker(benchmark, variant, environment)
    with tempfile.TemporaryDirectory() as folder:
        environment |= cached_in(Path(folder))
        figures = run_worker(benchmark, variant, environment)
        if "missing" not in figures:
            warm = run_worker(benchmark, variant, {**environment, FIRST_ONLY: "1"})
            figures |= {k.replace("first call", "first call, warm"): s for k, s in warm.items() if "first call" in k}
    return figures


def cached_in(folder: Path) -> dict[str, str]:
    """Variables that have every library keep all that it compiles in a folder."""
    return {
        "ASGFN_CACHE": str(folder / "asgfn"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch"),
    }


def run_worker(benchmark: str, variant: str, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks", benchmark, "--worker", variant]
    environment = {**os.environ, **environment, STARTED: str(time.time())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            return json.loads(line[len(MARK) :])
    raise RuntimeError(f"{benchmark}/{variant} failed:\n{done.stdout}\n{done.stderr}")


def check_agreement(results: dict[str, list[dict]], tolerances: dict[str, float]) -> None:
    """A benchmark of a wrong result is worth nothing."""
    for figure, tolerance in tolerances.items():
        found = {v: row[figure] for v, rows in results.items() for row in rows[-1:] if figure in row}
        nearly = max(map(abs, found.values()), default=0.0) * tolerance
        if not all(abs(x - y) <= nearly for x in found.values() for y in found.values()):
            raise AssertionError(f"{figure} should agree within {tolerance:g}, but is {found}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", choices=names())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.name is None:
        for name in names():
            print(f"{name:12s} {(importlib.import_module(f'benchmarks.{name}').__doc__ or '').strip().splitlines()[0]}")
        return
    if options.worker:
        worker(options.name, options.worker)
        return
    for package in ("asgfn", "backends"):  # an installed one has its bytecode
        compileall.compile_dir(Path(__file__).parents[1] / package, quiet=1)
    module = importlib.import_module(f"benchmarks.{options.name}")
    if not hasattr(module, "VARIANTS"):
        parser.error(f"{options.name} has no peers and options of its own: python -m benchmarks.{options.name}")
    results: dict[str, list[dict]] = {v: [] for v in module.VARIANTS}
    for _ in range(options.rounds):
        for variant in list(results):
            figures = run_once(options.name, variant)
            if "missing" in figures:
                print(f"{variant}: skipped, {figures['missing']} is not installed")
                del results[variant]
            else:
                results[variant].append(figures)
        check_agreement(results, getattr(module, "AGREE", {}))
    medians = {v: {k: statistics.median(r[k] for r in rows) for k in rows[0]} for v, rows in results.items()}
    report(options.name, medians)
    if options.json:
        machine = {
            "machine": platform.machine(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
        }
        data = {
            "benchmark": options.name,
            "rounds": options.rounds,
            "machine": machine,
            "medians": medians,
            "runs": results,
        }
        options.json.write_text(json.dumps(data, indent=1))
        print(f"wrote {options.json}")


def _number(x: float) -> str:
    return f"{x:.4g}"


def report(name: str, medians: dict[str, dict[str, float]]) -> None:
    """Prints a table: a row a figure, a column a variant, and the ratio of ours to each peer."""
    ours = next(iter(medians))
    peers = [v for v in medians if v != ours]
    figures = list(dict.fromkeys(k for row in medians.values() for k in row))
    print(f"{name}: medians; ratios are {ours} / peer")
    head = ["figure", ours, *(p for p in peers for _ in (0,)), *(f"/{p}" for p in peers)]
    rows = [head]
    for k in figures:
        mine = medians[ours].get(k)
        row = [k, _number(mine) if mine is not None else "-"]
        row += [_number(medians[p][k]) if k in medians[p] else "-" for p in peers]
        row += [f"{mine / medians[p][k]:.2f}" if mine is not None and medians[p].get(k) else "-" for p in peers]
        rows.append(row)
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    for r in rows:
        print("  " + "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))))


if __name__ == "__main__":
    main()
