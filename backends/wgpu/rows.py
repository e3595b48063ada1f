"""Numbers of a loop's steps, for kernels that read them: two tables, of n and of n * ROWS, that are bound at an offset."""

from __future__ import annotations

from typing import Any

import numpy as np

from backends.wgpu.package import package

# a row number is low + high, so that tables of ROWS entries are enough for ROWS * ROWS rows
ROWS = 4096
_COMPUTE = 4  # the shader stage, as a flag


class Rows:
    """The tables on a device of the `wgpu` package.

    Attributes:
        layout, group: of the bind group that has both tables.
    """

    def __init__(self, gpu: Any):
        wgpu = package()

        self._stride = gpu.limits["min-uniform-buffer-offset-alignment"]
        buffer = {"type": "uniform", "has_dynamic_offset": True, "min_binding_size": 16}
        entries = [{"binding": k, "visibility": _COMPUTE, "buffer": buffer} for k in (0, 1)]
        self.layout = gpu.create_bind_group_layout(entries=entries)
        tables = []
        for step in (1, ROWS):
            rows = np.zeros((ROWS, self._stride // 4), np.uint32)
            rows[:, 0] = np.arange(ROWS) * step
            tables.append(gpu.create_buffer_with_data(data=rows, usage=wgpu.BufferUsage.UNIFORM))
        resources = [
            {"binding": k, "resource": {"buffer": table, "offset": 0, "size": 16}} for k, table in enumerate(tables)
        ]
        self.group = gpu.create_bind_group(layout=self.layout, entries=resources)

    def offsets(self, number: int) -> list[int]:
        """Where the two parts of a row's number are."""
        high, low = divmod(number, ROWS)
        return [low * self._stride, high * self._stride]
