"""A decoder's layers for rows of one token each, as one call of a team of threads, written for LLVM.

A program is a list of operations, each a pointer to code of another module and what it works on. All threads walk
through the list side by side and meet behind every operation; products and attention divide themselves, rows of the
others are divided here.
"""

from typing import Any

from llvmlite import ir

from kindling_engine.jit import adapters_code, decode_code, linear_code
from kindling_engine.jit.meeting_code import MEETING, meet_function, meeting_open
from kindling_engine.jit.operations import ADAPT, ATTEND, GATE, LINEAR, NORM_OF_SUM, PLACE
from kindling_engine.jit.writing import (
    address,
    counted,
    f32,
    f32p,
    field,
    fields,
    fill,
    i32,
    i64,
    number,
    team_entry,
    team_place,
    void,
)

ENTRY = "program"

# Kind, code, matrix or weight or layer or site, x, what is added or the output of attention, y, size of y's rows,
# which of the steps, ε.
_OPERATION = ir.LiteralStructType([i64, address, address, f32p, f32p, f32p, i64, i64, f32])
# Operations and their number.
_PROGRAM = ir.LiteralStructType([_OPERATION.as_pointer(), i64])
# A program, its steps, rows, for how many cycles threads watch for each other.
_GIVEN = [_PROGRAM.as_pointer(), address.as_pointer(), i64, i64]
_RUN = ir.LiteralStructType([*_GIVEN, MEETING])


def program_module() -> Any:
    """ENTRY takes what is in _GIVEN, and a number of threads as 32 bits."""
    module = ir.Module("program")
    team_entry(module, ENTRY, _RUN, _GIVEN, _walk(module), prepare=_begin)
    return module


def _begin(build: Any, run: Any) -> None:
    meeting_open(build, _meeting(build, run))


def _meeting(build: Any, run: Any) -> Any:
    return field(build, run, len(_GIVEN))


def _walk(module: Any) -> Any:
    """One thread's part of all operations."""
    function = ir.Function(module, ir.FunctionType(void, [address]), "walk")
    function.linkage = "internal"
    meet = meet_function(module)
    build = ir.IRBuilder(function.append_basic_block("start"))
    places = {LINEAR: build.alloca(linear_code.PRODUCT), ATTEND: build.alloca(decode_code.CALL)}
    run = build.bitcast(function.args[0], _RUN.as_pointer())
    program, steps, rows, patience = fields(build, run, len(_GIVEN))
    meeting = _meeting(build, run)
    operations, count = fields(build, program)
    thread, threads = team_place(build)
    first = build.sdiv(build.mul(rows, thread), threads)
    end = build.sdiv(build.mul(rows, build.add(thread, number(1))), threads)
    with counted(build, number(0), count, number(1)) as at:
        kind, code, *given = fields(build, build.gep(operations, [at]))
        step = build.load(build.gep(steps, [given[-2]]))
        done = function.append_basic_block("done")
        choice = build.switch(kind, done)
        for one in range(ADAPT + 1):
            case = function.append_basic_block(f"kind_{one}")
            choice.add_case(number(one), case)
            build.position_at_end(case)
            _operation(build, one, (code, *given), (step, rows, thread, first, end), places)
            build.branch(done)
        build.position_at_end(done)
        build.call(meet, [meeting, build.trunc(at, i32), build.trunc(threads, i32), patience])
    build.ret_void()
    return function


def _operation(
    build: Any, kind: int, given: tuple[Any, ...], run: tuple[Any, ...], places: dict[int, Any]
) -> None:
    """A call of an operation's code, with what code of its kind takes."""
    code, thing, x, more, y, size, _, epsilon = given
    step, rows, thread, first, end = run
    count = build.sub(end, first)
    if kind == LINEAR:
        product = linear_code.PRODUCT
        # The rows of x are as long as W has inputs.
        matrix = build.bitcast(thing, product.elements[0])
        inputs = linear_code.inputs_of(build, matrix)
        _shared(build, code, places[kind], (matrix, x, inputs, y, rows))
    elif kind == ATTEND:
        layer, step = (
            build.bitcast(one, wanted)
            for one, wanted in zip((thing, step), decode_code.CALL.elements[:2], strict=True)
        )
        _shared(build, code, places[kind], (layer, step, x, y))
    elif kind == PLACE:
        kinds = decode_code.CALL.elements[:3]
        with build.if_then(build.icmp_signed("==", thread, number(0))):
            _call(build, code, kinds, (build.bitcast(thing, kinds[0]), build.bitcast(step, kinds[1]), x))
    elif kind == ADAPT:
        site, adapters = adapters_code.SITE.as_pointer(), adapters_code.ADAPTERS.as_pointer()
        values = [build.bitcast(thing, site), build.bitcast(step, adapters), x, y, size, first, end]
        with build.if_then(build.icmp_signed("<", first, end)):
            _call(build, code, [one.type for one in values], values)
    else:
        # Norms and gates of one row are for one thread, those of many for all.
        width = build.mul(size, number(2)) if kind == GATE else size
        line, target = (build.gep(one, [build.mul(first, each)]) for one, each in ((x, width), (y, size)))
        weight = [] if kind == GATE else [build.bitcast(thing, f32p)]
        added = [build.gep(more, [build.mul(first, size)])] if kind == NORM_OF_SUM else []
        last = [] if kind == GATE else [epsilon]
        values = [line, width, *added, *weight, target, count, size, *last]
        with build.if_then(build.icmp_signed("<", first, end)):
            _call(build, code, [one.type for one in values], values)


def _shared(build: Any, code: Any, place: Any, values: tuple[Any, ...]) -> None:
    """A call of code that divides its work itself, and takes a struct."""
    fill(build, place, values)
    _call(build, code, [address], [build.bitcast(place, address)])


def _call(build: Any, code: Any, kinds: Any, values: Any) -> None:
    build.call(build.bitcast(code, ir.FunctionType(void, list(kinds)).as_pointer()), list(values))
