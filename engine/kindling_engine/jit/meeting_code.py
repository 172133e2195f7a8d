"""Where the threads of a team meet behind an operation, written for LLVM.

Whoever comes last lets the others go. These watch for it for a while, which costs nobody anything on an idle machine;
then they sleep, and their core is free for whoever else wants it. To wake a thread takes some 50 µs on a virtual
machine, as long as an operation of a small step.
"""

from typing import Any

from llvmlite import ir

from kindling_engine.jit.writing import i32, i64, intrinsic, number, void

_CACHE_LINE = 64
# How many meetings are over; apart from it, in a line that nobody watches, who has come and who sleeps.
MEETING = ir.LiteralStructType([i32, ir.ArrayType(i32, _CACHE_LINE // 4 - 1), i32, i32])
_OVER, _COME, _ASLEEP = 0, 2, 3
_FUTEX, _WAIT, _WAKE = 202, 128, 129  # of Linux on x86-64, for threads of one process
_ALIGN = 4


def meeting_open(build: Any, meeting: Any) -> None:
    """Make what ``meeting`` points at ready for a team's first."""
    for at in (_OVER, _COME, _ASLEEP):
        build.store(ir.Constant(i32, 0), _place(build, meeting, at))


def meet_function(module: Any) -> Any:
    """``meet(meeting, turn, threads, patience)``: how many meetings were before, and for how many of the processor's
    cycles a thread watches before it sleeps.
    """
    kind = ir.FunctionType(void, [MEETING.as_pointer(), i32, i32, i64])
    function = ir.Function(module, kind, "meet")
    function.linkage = "internal"
    meeting, turn, threads, patience = function.args
    start, lead, wake, watch, hold, sleep, leave, done = (
        function.append_basic_block(name)
        for name in ("start", "lead", "wake", "watch", "hold", "sleep", "leave", "done")
    )
    build = ir.IRBuilder(start)
    over, come, asleep = (_place(build, meeting, at) for at in (_OVER, _COME, _ASLEEP))
    one = ir.Constant(i32, 1)
    began = _cycles(build)
    before = build.atomic_rmw("add", come, one, "acq_rel")
    build.cbranch(build.icmp_signed("==", build.add(before, one), threads), lead, watch)

    build.position_at_end(lead)
    build.store_atomic(ir.Constant(i32, 0), come, "monotonic", _ALIGN)
    # Before it is looked who sleeps, so that nobody goes to sleep unseen.
    build.atomic_rmw("xchg", over, build.add(turn, one), "seq_cst")
    sleepers = build.load_atomic(asleep, "seq_cst", _ALIGN)
    build.cbranch(build.icmp_signed(">", sleepers, ir.Constant(i32, 0)), wake, done)
    build.position_at_end(wake)
    _futex(build, over, _WAKE, ir.Constant(i32, (1 << 31) - 1))
    build.branch(done)

    build.position_at_end(watch)
    build.cbranch(_is_turn(build, over, turn), hold, done)
    build.position_at_end(hold)
    build.call(intrinsic(module, "llvm.x86.sse2.pause", void, []), [])
    waited = build.sub(_cycles(build), began)
    asleep_now = function.append_basic_block("asleep")
    build.cbranch(build.icmp_signed("<", waited, patience), watch, asleep_now)
    build.position_at_end(asleep_now)
    build.atomic_rmw("add", asleep, one, "seq_cst")
    build.branch(sleep)
    build.position_at_end(sleep)
    # Returns at once where the meeting is over already.
    _futex(build, over, _WAIT, turn)
    build.cbranch(_is_turn(build, over, turn), sleep, leave)
    build.position_at_end(leave)
    build.atomic_rmw("sub", asleep, one, "seq_cst")
    build.branch(done)

    build.position_at_end(done)
    build.ret_void()
    return function


def _is_turn(build: Any, over: Any, turn: Any) -> Any:
    return build.icmp_signed("==", build.load_atomic(over, "acquire", _ALIGN), turn)


def _cycles(build: Any) -> Any:
    return build.call(intrinsic(build.module, "llvm.readcyclecounter", i64, []), [])


def _futex(build: Any, word: Any, operation: int, value: Any) -> None:
    call = build.module.globals.get("syscall")
    if call is None:
        call = ir.Function(build.module, ir.FunctionType(i64, [i64], var_arg=True), "syscall")
    address, forever = build.ptrtoint(word, i64), number(0)
    build.call(call, [number(_FUTEX), address, number(operation), build.sext(value, i64), forever])


def _place(build: Any, meeting: Any, at: int) -> Any:
    return build.gep(meeting, [ir.Constant(i32, 0), ir.Constant(i32, at)])
