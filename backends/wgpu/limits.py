"""Keeping to less than a GPU can do: how programs are tested for GPUs that nobody has at hand."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

VARIABLE = "ASGFN_WGPU_LIMITS"
# short names of limits, as the variable has them
NAMES = {
    "threads": ("max-compute-invocations-per-workgroup", "max-compute-workgroup-size-x"),
    "shared": ("max-compute-workgroup-storage-size",),
    "buffers": ("max-storage-buffers-per-shader-stage",),
    "binding": ("max-storage-buffer-binding-size",),
    "buffer": ("max-buffer-size",),
    "grid": ("max-compute-workgroups-per-dimension",),
}
# of wgpu-native and of Dawn
FEATURES = {
    "f16": ("shader-f16",),
    "subgroups": ("subgroup", "subgroups", "chromium-experimental-subgroup-matrix"),
}
# what every implementation of WebGPU has at least (WebGPU, W3C Candidate Recommendation, section 3.6.2)
LEAST = "threads=256,shared=16384,buffers=8,binding=134217728,buffer=268435456,grid=65535,f16=0,subgroups=0"


def parse(text: str) -> dict[str, int]:
    """The limits that a text such as "threads=256,f16=0" or "least" names.

    Raises:
        ValueError: it names no limits.
    """
    found: dict[str, int] = {}
    for part in text.replace("least", LEAST).split(","):
        name, _, number = (word.strip() for word in part.partition("="))
        if not part.strip():
            continue
        if name not in (*NAMES, *FEATURES) or not number.isdecimal():
            known = ", ".join((*NAMES, *FEATURES))
            raise ValueError(
                f"{VARIABLE}={text!r}: {part.strip()!r} is not name=number; names are {known}, or 'least' for all"
            )
        found[name] = int(number)
    return found


def wanted() -> dict[str, int]:
    """The limits that the environment asks to keep to."""
    return parse(os.environ.get(VARIABLE, ""))


def capped(
    limits: Mapping[str, int], features: Sequence[str], most: Mapping[str, int]
) -> tuple[dict[str, int], list[str]]:
    """Limits and features of a device that keeps to these."""
    lowered = dict(limits)
    for short, value in most.items():
        for name in NAMES.get(short, ()):
            if name in lowered:
                lowered[name] = min(lowered[name], value)
    without = {name for short, value in most.items() if not value for name in FEATURES.get(short, ())}
    return lowered, [f for f in features if f not in without]
