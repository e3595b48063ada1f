"""What goes through a program's commands, in LLVM IR; names after a dollar are replaced by `runtime.functions`."""

from __future__ import annotations

# i64 place(words, at, bases, rows, found): the address of a place goes to `found`; where the words after it are
PLACE = """
define i64 @asgfn_place(ptr %words, i64 %at, ptr %bases, ptr %rows, ptr %found) nounwind noinline optnone {
entry:
  %head.p = getelementptr i64, ptr %words, i64 %at
  %head = load i64, ptr %head.p, align 8
  %storage = and i64 %head, 4294967295
  %terms = lshr i64 %head, 32
  %base.p = getelementptr ptr, ptr %bases, i64 %storage
  %base = load ptr, ptr %base.p, align 8
  %offset.p = getelementptr i64, ptr %head.p, i64 1
  %offset = load i64, ptr %offset.p, align 8
  %start = getelementptr i8, ptr %base, i64 %offset
  br label %look
look:
  %i = phi i64 [ 0, %entry ], [ %i.next, %term ]
  %sum = phi ptr [ %start, %entry ], [ %sum.next, %term ]
  %more = icmp ult i64 %i, %terms
  br i1 %more, label %term, label %end
term:
  %twice = shl i64 %i, 1
  %loop.at = add i64 %twice, 2
  %loop.p = getelementptr i64, ptr %head.p, i64 %loop.at
  %loop = load i64, ptr %loop.p, align 8
  %size.p = getelementptr i64, ptr %loop.p, i64 1
  %size = load i64, ptr %size.p, align 8
  %row.p = getelementptr i64, ptr %rows, i64 %loop
  %row = load i64, ptr %row.p, align 8
  %bytes = mul i64 %row, %size
  %sum.next = getelementptr i8, ptr %sum, i64 %bytes
  %i.next = add i64 %i, 1
  br label %look
end:
  store ptr %sum, ptr %found, align 8
  %used = shl i64 %terms, 1
  %length = add i64 %used, 2
  %after = add i64 %at, %length
  ret i64 %after
}
"""

# void swap(words, at, bases): exchanges the pairs of storages whose number is at `at`
SWAP = """
define void @asgfn_swap(ptr %words, i64 %at, ptr %bases) nounwind noinline optnone {
entry:
  %count.p = getelementptr i64, ptr %words, i64 %at
  %count = load i64, ptr %count.p, align 8
  br label %look
look:
  %i = phi i64 [ 0, %entry ], [ %i.next, %pair ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %pair, label %end
pair:
  %twice = shl i64 %i, 1
  %one.at = add i64 %twice, 1
  %one.p = getelementptr i64, ptr %count.p, i64 %one.at
  %one = load i64, ptr %one.p, align 8
  %other.p = getelementptr i64, ptr %one.p, i64 1
  %other = load i64, ptr %other.p, align 8
  %a.p = getelementptr ptr, ptr %bases, i64 %one
  %b.p = getelementptr ptr, ptr %bases, i64 %other
  %a = load ptr, ptr %a.p, align 8
  %b = load ptr, ptr %b.p, align 8
  store ptr %b, ptr %a.p, align 8
  store ptr %a, ptr %b.p, align 8
  %i.next = add i64 %i, 1
  br label %look
end:
  ret void
}
"""

# void execute(words, at, end, bases, rows, memories, board, scratch): does the commands from word `at` to before `end`.
# `board` is null if there is nobody to share kernels with.
EXECUTE = """
declare void @asgfn_share(ptr, ptr, ptr, i64, i64, i64)
declare i64 @asgfn_place(ptr, i64, ptr, ptr, ptr)
declare void @asgfn_swap(ptr, i64, ptr)
declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
define void @asgfn_execute(ptr %words, i64 %begin, i64 %end, ptr %bases, ptr %rows, ptr %memories, ptr %board, ptr %scratch) nounwind noinline optnone {
entry:
  %target = alloca ptr, align 8
  %source = alloca ptr, align 8
  %alone = icmp eq ptr %board, null
  br label %look
look:
  %at = phi i64 [ %begin, %entry ], [ %after, %next ]
  %more = icmp slt i64 %at, %end
  br i1 %more, label %command, label %out
command:
  %head.p = getelementptr i64, ptr %words, i64 %at
  %head = load i64, ptr %head.p, align 8
  %kind = and i64 %head, 255
  %length = lshr i64 %head, 8
  %after = add i64 %at, %length
  %at.1 = add i64 %at, 1
  %word.1.p = getelementptr i64, ptr %head.p, i64 1
  %word.2.p = getelementptr i64, ptr %head.p, i64 2
  %word.3.p = getelementptr i64, ptr %head.p, i64 3
  %word.4.p = getelementptr i64, ptr %head.p, i64 4
  switch i64 %kind, label %out [
    i64 $RUN, label %run
    i64 $COPY, label %copy
    i64 $FILL, label %fill
    i64 $LOOP, label %loop
    i64 $WHILE, label %while
    i64 $BRANCH, label %branch
  ]
next:
  br label %look

run:
  %function = load ptr, ptr %word.1.p, align 8
  %count = load i64, ptr %word.2.p, align 8
  %groups = load i64, ptr %word.3.p, align 8
  %chunk = load i64, ptr %word.4.p, align 8
  %first.place = add i64 %at, 5
  br label %run.look
run.look:
  %m = phi i64 [ 0, %run ], [ %m.next, %run.place ]
  %m.at = phi i64 [ %first.place, %run ], [ %m.after, %run.place ]
  %m.more = icmp slt i64 %m, %count
  br i1 %m.more, label %run.place, label %run.placed
run.place:
  %m.p = getelementptr ptr, ptr %memories, i64 %m
  %m.after = call i64 @asgfn_place(ptr %words, i64 %m.at, ptr %bases, ptr %rows, ptr %m.p)
  %m.next = add i64 %m, 1
  br label %run.look
run.placed:
  %small = icmp sle i64 %groups, %chunk
  %direct = or i1 %small, %alone
  br i1 %direct, label %run.direct, label %run.share
run.direct:
  call void %function(ptr %memories, i64 0, i64 %groups, ptr %scratch)
  br label %next
run.share:
  %rounded = add i64 %groups, %chunk
  %rounded.1 = sub i64 %rounded, 1
  %tasks = udiv i64 %rounded.1, %chunk
  call void @asgfn_share(ptr %board, ptr %function, ptr %memories, i64 %groups, i64 %chunk, i64 %tasks)
  br label %next

copy:
  %copy.size = load i64, ptr %word.1.p, align 8
  %copy.at = add i64 %at, 2
  %copy.from = call i64 @asgfn_place(ptr %words, i64 %copy.at, ptr %bases, ptr %rows, ptr %target)
  %copy.after = call i64 @asgfn_place(ptr %words, i64 %copy.from, ptr %bases, ptr %rows, ptr %source)
  %copy.target = load ptr, ptr %target, align 8
  %copy.source = load ptr, ptr %source, align 8
  call void @llvm.memmove.p0.p0.i64(ptr %copy.target, ptr %copy.source, i64 %copy.size, i1 false)
  br label %next

fill:
  %fill.size = load i64, ptr %word.1.p, align 8
  %fill.at = add i64 %at, 2
  %fill.after = call i64 @asgfn_place(ptr %words, i64 %fill.at, ptr %bases, ptr %rows, ptr %target)
  %fill.target = load ptr, ptr %target, align 8
  call void @llvm.memset.p0.i64(ptr %fill.target, i8 0, i64 %fill.size, i1 false)
  br label %next

loop:
  %depth = load i64, ptr %word.1.p, align 8
  %steps = load i64, ptr %word.2.p, align 8
  %row.first = load i64, ptr %word.3.p, align 8
  %row.step = load i64, ptr %word.4.p, align 8
  %row.p = getelementptr i64, ptr %rows, i64 %depth
  %loop.swaps = add i64 %at, 5
  %loop.pairs.p = getelementptr i64, ptr %words, i64 %loop.swaps
  %loop.pairs = load i64, ptr %loop.pairs.p, align 8
  %loop.words = shl i64 %loop.pairs, 1
  %loop.after = add i64 %loop.swaps, 1
  %loop.body = add i64 %loop.after, %loop.words
  br label %loop.look
loop.look:
  %step = phi i64 [ 0, %loop ], [ %step.next, %loop.step ]
  %row = phi i64 [ %row.first, %loop ], [ %row.next, %loop.step ]
  %step.more = icmp slt i64 %step, %steps
  br i1 %step.more, label %loop.step, label %next
loop.step:
  store i64 %row, ptr %row.p, align 8
  call void @asgfn_execute(ptr %words, i64 %loop.body, i64 %after, ptr %bases, ptr %rows, ptr %memories, ptr %board, ptr %scratch)
  call void @asgfn_swap(ptr %words, i64 %loop.swaps, ptr %bases)
  %step.next = add i64 %step, 1
  %row.next = add i64 %row, %row.step
  br label %loop.look

while:
  %while.swaps = call i64 @asgfn_place(ptr %words, i64 %at.1, ptr %bases, ptr %rows, ptr %target)
  %while.pairs.p = getelementptr i64, ptr %words, i64 %while.swaps
  %while.pairs = load i64, ptr %while.pairs.p, align 8
  %while.words = shl i64 %while.pairs, 1
  %while.after = add i64 %while.swaps, 1
  %test.length.at = add i64 %while.after, %while.words
  %test.length.p = getelementptr i64, ptr %words, i64 %test.length.at
  %test.length = load i64, ptr %test.length.p, align 8
  %test.at = add i64 %test.length.at, 1
  %while.body = add i64 %test.at, %test.length
  br label %while.test
while.test:
  call void @asgfn_execute(ptr %words, i64 %test.at, i64 %while.body, ptr %bases, ptr %rows, ptr %memories, ptr %board, ptr %scratch)
  ; its storage may have changed places
  %while.again = call i64 @asgfn_place(ptr %words, i64 %at.1, ptr %bases, ptr %rows, ptr %target)
  %condition.p = load ptr, ptr %target, align 8
  %condition = load i8, ptr %condition.p, align 1
  %holds = icmp ne i8 %condition, 0
  br i1 %holds, label %while.step, label %next
while.step:
  call void @asgfn_execute(ptr %words, i64 %while.body, i64 %after, ptr %bases, ptr %rows, ptr %memories, ptr %board, ptr %scratch)
  call void @asgfn_swap(ptr %words, i64 %while.swaps, ptr %bases)
  br label %while.test

branch:
  %cases.at = call i64 @asgfn_place(ptr %words, i64 %at.1, ptr %bases, ptr %rows, ptr %target)
  %cases.p = getelementptr i64, ptr %words, i64 %cases.at
  %cases = load i64, ptr %cases.p, align 8
  %index.p = load ptr, ptr %target, align 8
  %index.32 = load i32, ptr %index.p, align 4
  %index.64 = sext i32 %index.32 to i64
  %negative = icmp slt i64 %index.64, 0
  %index.low = select i1 %negative, i64 0, i64 %index.64
  %last = sub i64 %cases, 1
  %beyond = icmp sgt i64 %index.low, %last
  %index = select i1 %beyond, i64 %last, i64 %index.low
  %case.first = add i64 %cases.at, 1
  br label %branch.look
branch.look:
  %case = phi i64 [ 0, %branch ], [ %case.next, %branch.skip ]
  %case.at = phi i64 [ %case.first, %branch ], [ %case.after, %branch.skip ]
  %case.p = getelementptr i64, ptr %words, i64 %case.at
  %case.length = load i64, ptr %case.p, align 8
  %case.body = add i64 %case.at, 1
  %case.after = add i64 %case.body, %case.length
  %chosen = icmp eq i64 %case, %index
  br i1 %chosen, label %branch.case, label %branch.skip
branch.skip:
  %case.next = add i64 %case, 1
  br label %branch.look
branch.case:
  call void @asgfn_execute(ptr %words, i64 %case.body, i64 %case.after, ptr %bases, ptr %rows, ptr %memories, ptr %board, ptr %scratch)
  br label %next

out:
  ret void
}
"""

# i64 run(program, addresses, objects, board, scratch, stride): a program, with the arrays of the tuple `objects` if it is not
# null. It returns 0, or, without having done anything, what `gather` says of an array that kernels can't read.
# `program` is six words: where its commands are, how many words, storages, memories of a kernel, and loops in each other, and
# the table for `gather`. Storages, rows and a kernel's memories are on this thread's stack: a program may run several times
# at once.
RUN = """
declare void @asgfn_execute(ptr, i64, i64, ptr, ptr, ptr, ptr, ptr)
declare i64 @asgfn_gather(ptr, ptr, ptr)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
define i64 @asgfn_run(ptr %program, ptr %addresses, ptr %objects, ptr %board, ptr %scratch, i64 %stride) nounwind noinline optnone {
entry:
  %length.p = getelementptr i64, ptr %program, i64 1
  %storages.p = getelementptr i64, ptr %program, i64 2
  %most.p = getelementptr i64, ptr %program, i64 3
  %depth.p = getelementptr i64, ptr %program, i64 4
  %table.p = getelementptr i64, ptr %program, i64 5
  %words = load ptr, ptr %program, align 8
  %length = load i64, ptr %length.p, align 8
  %storages = load i64, ptr %storages.p, align 8
  %most = load i64, ptr %most.p, align 8
  %depth = load i64, ptr %depth.p, align 8
  %bases = alloca ptr, i64 %storages, align 64
  %memories = alloca ptr, i64 %most, align 64
  %rows = alloca i64, i64 %depth, align 64
  %size = shl i64 %storages, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %bases, ptr %addresses, i64 %size, i1 false)
  %known = icmp eq ptr %objects, null
  br i1 %known, label %start, label %gather
gather:
  %table = load ptr, ptr %table.p, align 8
  %bad = call i64 @asgfn_gather(ptr %table, ptr %objects, ptr %bases)
  %good = icmp eq i64 %bad, 0
  br i1 %good, label %start, label %refuse
refuse:
  ret i64 %bad
start:
  %alone = icmp eq ptr %board, null
  br i1 %alone, label %go, label %begin
begin:
  %active.p = getelementptr i64, ptr %board, i64 $ACTIVE
  %scratch.p = getelementptr i64, ptr %board, i64 $SCRATCH
  %stride.p = getelementptr i64, ptr %board, i64 $STRIDE
  store atomic ptr %scratch, ptr %scratch.p monotonic, align 8
  store atomic i64 %stride, ptr %stride.p monotonic, align 8
  store atomic i64 1, ptr %active.p release, align 8
  br label %go
go:
  call void @asgfn_execute(ptr %words, i64 0, i64 %length, ptr %bases, ptr %rows, ptr %memories, ptr %board, ptr %scratch)
  br i1 %alone, label %end, label %finish
finish:
  %active.end.p = getelementptr i64, ptr %board, i64 $ACTIVE
  store atomic i64 0, ptr %active.end.p release, align 8
  br label %end
end:
  ret i64 0
}
"""
