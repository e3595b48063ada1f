"""Cost of calling a function compiled for the CPU on tiny arrays."""

from __future__ import annotations

from benchmarks import libraries
from benchmarks.overhead import call_figures, torch_figures

VARIANTS = {
    "asgfn": lambda: call_figures(*libraries.ours()[:2], backend=libraries.cpu_backend()),
    "jax": lambda: call_figures(*libraries.jax()[:2]),
    "torch": torch_figures,
    "torch compiled": lambda: torch_figures(compiled=True),
}
