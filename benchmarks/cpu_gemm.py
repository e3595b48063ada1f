"""Products of matrices on the CPU: the compiled library against NumPy, PyTorch and JAX. Seconds of one product.

ASGFN_GEMM_THREADS=2 gives every library two threads; one is the default. Ours shares products out as `cut` says,
packing included. `of peak` is the rate of ours divided by that of a loop of nothing but multiply-adds.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

THREADS = int(os.environ.get("ASGFN_GEMM_THREADS", "1"))
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": str(THREADS),
    "OMP_NUM_THREADS": str(THREADS),
    "MKL_NUM_THREADS": str(THREADS),
}
if THREADS == 1:
    ENVIRONMENT["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


@dataclass(frozen=True)
class Case:
    """A product, perhaps of a transposed operand; `batch` of them lie one after the other."""

    m: int
    n: int
    k: int
    turned: str = ""
    batch: int = 1

    @property
    def name(self) -> str:
        sizes = f"{self.m}x{self.n}x{self.k}"
        return f"{self.batch} of {sizes}" if self.batch > 1 else sizes + (f" {self.turned}^T" if self.turned else "")

    def operands(self) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(0)

        def matrix(rows: int, columns: int, turned: bool) -> np.ndarray:
            shape = (columns, rows) if turned else (rows, columns)
            x = generator.standard_normal((self.batch, *shape), dtype=np.float32)
            x = x.swapaxes(1, 2) if turned else x
            return x if self.batch > 1 else x[0]

        return matrix(self.m, self.k, self.turned == "a"), matrix(self.k, self.n, self.turned == "b")


CASES = (
    Case(1024, 1024, 1024),
    Case(1024, 1024, 1024, "a"),
    Case(1024, 1024, 1024, "b"),
    Case(128, 784, 512),
    Case(128, 512, 512),
    Case(512, 128, 784, "a"),
    Case(128, 512, 784, "b"),
    Case(1024, 128, 512),
    Case(1024, 512, 128),
    Case(128, 1024, 512, "a"),
    Case(64, 768, 3072),
    Case(64, 3072, 768),
    Case(64, 768, 3072, "b"),
    Case(64, 3072, 768, "b"),
    Case(4, 3072, 768),
    Case(1, 50257, 768),
    Case(1, 50257, 768, "b"),
    Case(64, 64, 32, batch=64),
    Case(64, 32, 64, batch=64),
    Case(16, 16, 16, batch=512),
)


def _measured(run: Callable[..., object], *arguments: object, **options: object) -> float:
    """The fastest of many calls: others use the machine too."""
    run(*arguments, **options)
    best, end = float("inf"), time.perf_counter() + 0.4
    while time.perf_counter() < end:
        started = time.perf_counter()
        run(*arguments, **options)
        best = min(best, time.perf_counter() - started)
    return best


def ours() -> dict[str, float]:
    from backends.llvm.engine import Engine
    from backends.llvm.gemm import gemm_functions
    from backends.llvm.gemm_shape import GemmShape, cut, host_shape

    shape: GemmShape = host_shape("float")
    functions = {name: write() for name, write in gemm_functions(shape).items()}
    functions |= {"batched": _BATCHED, "peak": _peak(shape.lanes)}
    address = Engine().compile(functions)
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    sizes, matrix = (number,) * 3, (pointer, number, number)
    rest = (pointer, number, ctypes.c_bool)
    gemm = ctypes.CFUNCTYPE(None, *sizes, *matrix, *matrix, *rest)(address["gemm_f32"])
    packing = ctypes.CFUNCTYPE(None, *sizes, *matrix, *matrix, *rest, pointer)(address["gemm_packing_f32"])
    batched = ctypes.CFUNCTYPE(None, number, *sizes, *(pointer,) * 3, number)(address["batched"])
    peak = ctypes.CFUNCTYPE(None, number, pointer)(address["peak"])
    gemv = ctypes.CFUNCTYPE(None, number, number, pointer, number, pointer, pointer, number, ctypes.c_bool)(
        address["gemv_f32"]
    )
    gevm = ctypes.CFUNCTYPE(None, number, number, pointer, number, pointer, number, pointer, ctypes.c_bool)(
        address["gevm_f32"]
    )
    pool = ThreadPoolExecutor(THREADS)
    kept: list[np.ndarray] = []

    def tasks(case: Case) -> list[Callable[[], object]]:
        a, b = case.operands()
        c = np.empty((*a.shape[:-1], case.n), np.float32)
        kept.extend([a, b, c])
        if case.batch > 1:
            part = -(-case.batch // THREADS)
            return [
                _bound(
                    batched,
                    *(min(part, case.batch - i), case.m, case.n, case.k),
                    *(a[i:].ctypes.data, b[i:].ctypes.data, c[i:].ctypes.data, shape.nr),
                )
                for i in range(0, case.batch, part)
            ]
        (a_row, a_k), (b_k, b_n) = ([s // 4 for s in x.strides] for x in (a, b))
        if case.m == 1 and b_k == 1:
            part = -(-case.n // THREADS)
            return [
                _bound(
                    gemv,
                    *(min(part, case.n - j), case.k, b[:, j:].ctypes.data, b_n),
                    *(a.ctypes.data, c[:, j:].ctypes.data, 1, False),
                )
                for j in range(0, case.n, part)
            ]
        how = cut(shape, case.m, case.n, case.k, THREADS, b_n == 1)
        if case.m == 1:
            return [
                _bound(
                    gevm,
                    *(min(how.columns, case.n - j), case.k, a.ctypes.data, 1),
                    *(b[:, j:].ctypes.data, b_k, c[:, j:].ctypes.data, False),
                )
                for j in range(0, case.n, how.columns)
            ]
        parts = []
        for i in range(0, case.m, how.rows):
            for j in range(0, case.n, how.columns):
                m, n = min(how.rows, case.m - i), min(how.columns, case.n - j)
                start = (m, n, case.k, a[i:].ctypes.data, a_row, a_k, b[:, j:].ctypes.data, b_k)
                end = (c[i:, j:].ctypes.data, case.n, False)
                if how.packing:
                    kept.append(np.empty(shape.workspace(n, case.k), np.float32))
                    parts.append(_bound(packing, *start, b_n, *end, kept[-1].ctypes.data))
                else:
                    parts.append(_bound(gemm, *start, shape.nr, *end))
        return parts

    def together(parts: list[Callable[[], object]]) -> None:
        for _ in pool.map(_called, parts):
            pass

    figures = {}
    sums = np.empty(12 * shape.lanes, np.float32)
    count = 10**6
    rate = 24 * count * shape.lanes / _measured(peak, count, sums.ctypes.data)
    for case in CASES:
        parts = tasks(case)
        seconds = _measured(parts[0]) if len(parts) == 1 else _measured(together, parts)
        figures[case.name] = seconds
        figures[f"{case.name}, of peak"] = 2.0 * case.batch * case.m * case.n * case.k / seconds / rate / THREADS
    return figures


def _called(part: Callable[[], object]) -> object:
    return part()


def _bound(function: Callable, *arguments: object) -> Callable[[], object]:
    """A call that costs little more than what it calls: its arguments are converted once."""
    kinds = function.argtypes  # type: ignore[attr-defined]
    values = [kind(value) for kind, value in zip(kinds, arguments, strict=True)]
    return lambda: function(*values)


_GEMM = "declare void @gemm_f32(i64, i64, i64, ptr, i64, i64, ptr, i64, i64, ptr, i64, i1)"
_BATCHED = f"""
{_GEMM}
define void @batched(i64 %count, i64 %m, i64 %n, i64 %k, ptr %a, ptr %b, ptr %c, i64 %nr) {{
entry:
  %mk = mul i64 %m, %k
  %kn = mul i64 %k, %n
  %mn = mul i64 %m, %n
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %j, %next ]
  %x = phi ptr [ %a, %entry ], [ %xx, %next ]
  %y = phi ptr [ %b, %entry ], [ %yy, %next ]
  %z = phi ptr [ %c, %entry ], [ %zz, %next ]
  call void @gemm_f32(i64 %m, i64 %n, i64 %k, ptr %x, i64 %k, i64 1, ptr %y, i64 %n, i64 %nr, ptr %z, i64 %n, i1 0)
  %xx = getelementptr float, ptr %x, i64 %mk
  %yy = getelementptr float, ptr %y, i64 %kn
  %zz = getelementptr float, ptr %z, i64 %mn
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %count
  br i1 %more, label %next, label %done
done:
  ret void
}}
"""


def _peak(lanes: int) -> str:
    """A loop of twelve independent sums: as fast as multiply-adds come."""
    kind = f"<{lanes} x float>"
    fma = f"@llvm.fma.v{lanes}f32"
    phis = [f"  %a{n} = phi {kind} [ zeroinitializer, %entry ], [ %b{n}, %next ]" for n in range(12)]
    sums = [f"  %b{n} = call {kind} {fma}({kind} %x, {kind} %x, {kind} %a{n})" for n in range(12)]
    stores = []
    for n in range(12):
        stores.append(f"  %p{n} = getelementptr {kind}, ptr %p, i64 {n}")
        stores.append(f"  store {kind} %b{n}, ptr %p{n}, align 4")
    lines = [
        f"declare {kind} {fma}({kind}, {kind}, {kind})",
        "define void @peak(i64 %count, ptr %p) {",
        "entry:",
        f"  %x = load {kind}, ptr %p, align 4",
        "  br label %next",
        "next:",
        "  %i = phi i64 [ 0, %entry ], [ %j, %next ]",
        *(*phis, *sums),
        "  %j = add i64 %i, 1",
        "  %more = icmp slt i64 %j, %count",
        "  br i1 %more, label %next, label %done",
        "done:",
        *(*stores, "  ret void", "}"),
    ]
    return "\n".join(lines)


def numpy() -> dict[str, float]:
    figures = {}
    for case in CASES:
        a, b = case.operands()
        c = np.empty((*a.shape[:-1], case.n), np.float32)
        figures[case.name] = _measured(np.matmul, a, b, out=c)
    return figures


def torch() -> dict[str, float]:
    import torch as library

    library.set_num_threads(THREADS)
    figures = {}
    for case in CASES:
        a, b = (library.from_numpy(x) for x in case.operands())
        c = library.empty((*a.shape[:-1], case.n))
        figures[case.name] = _measured(library.matmul, a, b, out=c)
    return figures


def jax() -> dict[str, float]:
    import jax as library
    import jax.numpy as jnp

    def product(x: jnp.ndarray, y: jnp.ndarray, turned: str) -> jnp.ndarray:
        x = x.swapaxes(-1, -2) if turned == "a" else x
        y = y.swapaxes(-1, -2) if turned == "b" else y
        return x @ y

    def run(compiled: Callable, x: jnp.ndarray, y: jnp.ndarray) -> None:
        compiled(x, y).block_until_ready()

    figures = {}
    for case in CASES:
        # a device array is contiguous: what is transposed is so inside the program
        operands = case.operands()
        x, y = (
            library.device_put(np.ascontiguousarray(o.swapaxes(-1, -2) if case.turned == name else o))
            for o, name in zip(operands, "ab", strict=True)
        )
        compiled = library.jit(product, static_argnums=2).lower(x, y, case.turned).compile()
        figures[case.name] = _measured(run, compiled, x, y)
    return figures


VARIANTS = {"asgfn": ours, "numpy": numpy, "torch": torch, "jax": jax}
