"""The native half of the runner, in LLVM IR: what helps with a program's kernels, and its `interpreter`.

The caller of a program and the workers share a *board*, a few words of memory. To hand out a kernel, the caller writes its
*job* there and then the ticket: how many tasks of it nobody has taken, below the job's number. Whoever succeeds in
exchanging the ticket for one with a task less has a task. That the number of the job is in the ticket, and that a job is not
written before all tasks of the one before are done, makes sure that the task belongs to the job that was read.

The caller takes tasks like everybody else, and then waits for those that others have taken: a worker that is late, asleep, or
has no processor to run on holds nothing up.
"""

from __future__ import annotations

from backends.cpu import interpreter
from backends.cpu.arguments import GATHER
from backends.cpu.commands import BRANCH, COPY, FILL, LOOP, RUN, WHILE
from backends.llvm.compiling import one_module
from backends.llvm.host import address_of

# Words of the board. What different threads write is 128 bytes apart: processors fetch pairs of cache lines.
TICKET, PENDING, JOB, ACTIVE, STOP, SPINS = 0, 16, 32, 48, 49, 50
WORDS = 64
_FUNCTION, _MEMORIES, _GROUPS, _CHUNK, _TASKS, _SCRATCH, _STRIDE = range(JOB, JOB + 7)
# Microseconds that a worker sleeps while a program has nothing for it, and has had nothing for a while.
_NAP = 50

# What says to a processor that it waits: a function of LLVM, and its arguments.
_X86, _ARM = (
    ("llvm.x86.sse2.pause", "", ""),
    ("llvm.aarch64.isb", "i32", "i32 15"),
)  # ARM's `yield` does nothing on most
_PAUSE = {"x86_64": _X86, "amd64": _X86, "aarch64": _ARM, "arm64": _ARM}


def functions(machine: str) -> tuple[dict[str, str], dict[str, int]]:
    """The functions of the runner as LLVM IR, in one module, and the addresses of the system's functions that they call.

    Arguments:
        machine: the architecture, as `platform.machine` says.
    """
    give_up, nap = address_of("sched_yield"), address_of("usleep")
    unit = _NAP
    if give_up is None or nap is None:  # Windows
        give_up, nap, unit = address_of("SwitchToThread"), address_of("Sleep"), 0
    assert give_up is not None and nap is not None
    pause, declared = 'fence syncscope("singlethread") seq_cst', ""
    if machine.lower() in _PAUSE:
        name, types, arguments = _PAUSE[machine.lower()]
        pause, declared = f"call void @{name}({arguments})", f"declare void @{name}({types})\n"
    texts = {
        "asgfn_spin": _SPIN,
        "asgfn_tasks": _TASKS_TEXT,
        "asgfn_work": _WORK,
        "asgfn_share": _SHARE,
        "asgfn_place": interpreter.PLACE,
        "asgfn_swap": interpreter.SWAP,
        "asgfn_execute": interpreter.EXECUTE,
        "asgfn_gather": GATHER,
        "asgfn_run": interpreter.RUN,
    }
    values = {"PAUSE": pause, "NAP": str(unit)}
    module = one_module([declared, *(_filled(text, values) for text in texts.values())])
    return dict.fromkeys(texts, module), {"asgfn_yield": give_up, "asgfn_nap": nap}


def _filled(text: str, values: dict[str, str]) -> str:
    """The text with $NAME replaced, by values and by the constants of this module and of `commands`."""
    constants = {
        "TICKET": TICKET, "PENDING": PENDING, "ACTIVE": ACTIVE, "STOP": STOP, "SPINS": SPINS,
        "FUNCTION": _FUNCTION, "MEMORIES": _MEMORIES, "GROUPS": _GROUPS, "CHUNK": _CHUNK, "TASKS": _TASKS,
        "SCRATCH": _SCRATCH, "STRIDE": _STRIDE,
        "RUN": RUN, "COPY": COPY, "FILL": FILL, "LOOP": LOOP, "WHILE": WHILE, "BRANCH": BRANCH,
    }  # fmt: skip
    for name, value in sorted({**constants, **values}.items(), key=lambda item: -len(item[0])):
        text = text.replace(f"${name}", str(value))
    return text


# void spin(i64 times): what a worker does while it waits, to find out how long that takes
_SPIN = """
define void @asgfn_spin(i64 %times) nounwind noinline optnone {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  $PAUSE
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %times
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""

# i64 tasks(board, thread): takes tasks of the current job and does them, until there are none; how many it did
_TASKS_TEXT = """
define i64 @asgfn_tasks(ptr %board, i64 %thread) nounwind noinline optnone {
entry:
  %ticket.p = getelementptr i64, ptr %board, i64 $TICKET
  %pending.p = getelementptr i64, ptr %board, i64 $PENDING
  %function.p = getelementptr i64, ptr %board, i64 $FUNCTION
  %memories.p = getelementptr i64, ptr %board, i64 $MEMORIES
  %groups.p = getelementptr i64, ptr %board, i64 $GROUPS
  %chunk.p = getelementptr i64, ptr %board, i64 $CHUNK
  %tasks.p = getelementptr i64, ptr %board, i64 $TASKS
  %scratch.p = getelementptr i64, ptr %board, i64 $SCRATCH
  %stride.p = getelementptr i64, ptr %board, i64 $STRIDE
  br label %look
look:
  %done = phi i64 [ 0, %entry ], [ %done, %take ], [ %done.next, %work ]
  %ticket = load atomic i64, ptr %ticket.p acquire, align 8
  %left = and i64 %ticket, 4294967295
  %none = icmp eq i64 %left, 0
  br i1 %none, label %end, label %take
take:
  ; what is read here is this job's only if the exchange succeeds
  %function = load atomic ptr, ptr %function.p monotonic, align 8
  %memories = load atomic ptr, ptr %memories.p monotonic, align 8
  %groups = load atomic i64, ptr %groups.p monotonic, align 8
  %chunk = load atomic i64, ptr %chunk.p monotonic, align 8
  %tasks = load atomic i64, ptr %tasks.p monotonic, align 8
  %scratches = load atomic ptr, ptr %scratch.p monotonic, align 8
  %stride = load atomic i64, ptr %stride.p monotonic, align 8
  %less = sub i64 %ticket, 1
  %exchange = cmpxchg ptr %ticket.p, i64 %ticket, i64 %less acq_rel monotonic, align 8
  %mine = extractvalue { i64, i1 } %exchange, 1
  br i1 %mine, label %work, label %look
work:
  %task = sub i64 %tasks, %left
  %first = mul i64 %task, %chunk
  %end.all = add i64 %first, %chunk
  %over = icmp sgt i64 %end.all, %groups
  %last = select i1 %over, i64 %groups, i64 %end.all
  %from = mul i64 %thread, %stride
  %scratch = getelementptr i8, ptr %scratches, i64 %from
  call void %function(ptr %memories, i64 %first, i64 %last, ptr %scratch)
  %done.next = add i64 %done, 1
  br label %look
end:
  %any = icmp ne i64 %done, 0
  br i1 %any, label %tell, label %out
tell:
  %before = atomicrmw sub ptr %pending.p, i64 %done release, align 8
  br label %out
out:
  ret i64 %done
}
"""

# void work(board, thread): does tasks until there was nothing to do for a while and no program runs.
# While one runs, it does not leave: only Python could wake it. It polls, more and more seldom.
_WORK = """
declare i64 @asgfn_tasks(ptr, i64)
declare i32 @asgfn_yield()
declare i32 @asgfn_nap(i32)
define void @asgfn_work(ptr %board, i64 %thread) nounwind noinline optnone {
entry:
  %active.p = getelementptr i64, ptr %board, i64 $ACTIVE
  %stop.p = getelementptr i64, ptr %board, i64 $STOP
  %spins.p = getelementptr i64, ptr %board, i64 $SPINS
  %spins = load i64, ptr %spins.p, align 8
  %twice = shl i64 %spins, 1
  br label %look
look:
  %idle = phi i64 [ 0, %entry ], [ 0, %look ], [ %idle.next, %pause ], [ %idle.next, %yield ], [ %idle, %nap ]
  %done = call i64 @asgfn_tasks(ptr %board, i64 %thread)
  %some = icmp ne i64 %done, 0
  br i1 %some, label %look, label %wait
wait:
  %idle.next = add i64 %idle, 1
  %stop = load atomic i64, ptr %stop.p monotonic, align 8
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %end, label %long
long:
  %fresh = icmp slt i64 %idle, %spins
  br i1 %fresh, label %pause, label %late
pause:
  $PAUSE
  br label %look
late:
  %active = load atomic i64, ptr %active.p monotonic, align 8
  %over = icmp eq i64 %active, 0
  br i1 %over, label %end, label %patient
patient:
  %awake = icmp slt i64 %idle, %twice
  br i1 %awake, label %yield, label %nap
yield:
  %yielded = call i32 @asgfn_yield()
  br label %look
nap:
  %napped = call i32 @asgfn_nap(i32 $NAP)
  br label %look
end:
  ret void
}
"""

# void share(board, function, memories, groups, chunk, tasks): a kernel by all threads; returns when it is done
_SHARE = """
declare i64 @asgfn_tasks(ptr, i64)
declare i32 @asgfn_yield()
define void @asgfn_share(ptr %board, ptr %function, ptr %memories, i64 %groups, i64 %chunk, i64 %tasks) nounwind noinline optnone {
entry:
  %ticket.p = getelementptr i64, ptr %board, i64 $TICKET
  %pending.p = getelementptr i64, ptr %board, i64 $PENDING
  %function.p = getelementptr i64, ptr %board, i64 $FUNCTION
  %memories.p = getelementptr i64, ptr %board, i64 $MEMORIES
  %groups.p = getelementptr i64, ptr %board, i64 $GROUPS
  %chunk.p = getelementptr i64, ptr %board, i64 $CHUNK
  %tasks.p = getelementptr i64, ptr %board, i64 $TASKS
  %spins.p = getelementptr i64, ptr %board, i64 $SPINS
  %spins.all = load i64, ptr %spins.p, align 8
  %spins = lshr i64 %spins.all, 3
  store atomic ptr %function, ptr %function.p monotonic, align 8
  store atomic ptr %memories, ptr %memories.p monotonic, align 8
  store atomic i64 %groups, ptr %groups.p monotonic, align 8
  store atomic i64 %chunk, ptr %chunk.p monotonic, align 8
  store atomic i64 %tasks, ptr %tasks.p monotonic, align 8
  store atomic i64 %tasks, ptr %pending.p monotonic, align 8
  %old = load atomic i64, ptr %ticket.p monotonic, align 8
  %next = add i64 %old, 4294967296
  %job = and i64 %next, -4294967296
  %ticket = or i64 %job, %tasks
  store atomic i64 %ticket, ptr %ticket.p release, align 8
  %done = call i64 @asgfn_tasks(ptr %board, i64 0)
  br label %look
look:
  %idle = phi i64 [ 0, %entry ], [ %idle.next, %pause ], [ %idle.next, %yield ]
  %pending = load atomic i64, ptr %pending.p acquire, align 8
  %finished = icmp eq i64 %pending, 0
  br i1 %finished, label %end, label %wait
wait:
  %idle.next = add i64 %idle, 1
  %fresh = icmp slt i64 %idle, %spins
  br i1 %fresh, label %pause, label %yield
pause:
  $PAUSE
  br label %look
yield:
  ; whoever has the last task may be waiting for this processor
  %yielded = call i32 @asgfn_yield()
  br label %look
end:
  ret void
}
"""
