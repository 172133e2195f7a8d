"""Types and loops in which kernels are written for LLVM."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

f16 = ir.HalfType()
f32 = ir.FloatType()
f32p = f32.as_pointer()
i8 = ir.IntType(8)
i16 = ir.IntType(16)
i32 = ir.IntType(32)
i64 = ir.IntType(64)
address = i8.as_pointer()
void = ir.VoidType()


def number(value: int) -> Any:
    """A constant of 64 bits."""
    return ir.Constant(i64, value)


def smaller(build: Any, left: Any, right: Any) -> Any:
    return build.select(build.icmp_signed("<", left, right), left, right)


def spread(build: Any, scalar: Any, width: int) -> Any:
    """A vector with ``scalar`` in every place."""
    empty = ir.Constant(ir.VectorType(scalar.type, width), ir.Undefined)
    first = build.insert_element(empty, scalar, ir.Constant(i32, 0))
    return build.shuffle_vector(first, empty, ir.Constant(ir.VectorType(i32, width), [0] * width))


@contextmanager
def counted(build: Any, start: Any, end: Any, step: Any) -> Iterator[Any]:
    """A loop over ``start``, ``start + step``, … below ``end``; gives the count, and goes on behind the loop."""
    function, before = build.function, build.block
    head, body, after = (function.append_basic_block(name) for name in ("head", "body", "after"))
    build.branch(head)
    build.position_at_end(head)
    count = build.phi(i64)
    count.add_incoming(start, before)
    build.cbranch(build.icmp_signed("<", count, end), body, after)
    build.position_at_end(body)
    yield count
    count.add_incoming(build.add(count, step), build.block)
    build.branch(head)
    build.position_at_end(after)


def field(build: Any, struct: Any, at: int) -> Any:
    """Where a field of what ``struct`` points at is."""
    return build.gep(struct, [ir.Constant(i32, 0), ir.Constant(i32, at)])


def fields(build: Any, struct: Any, count: int = 0) -> list[Any]:
    """The values in what ``struct`` points at, or the first ``count`` of them."""
    count = count or len(struct.type.pointee.elements)
    return [build.load(field(build, struct, at)) for at in range(count)]


def fill(build: Any, struct: Any, values: Any) -> None:
    """Put values into what ``struct`` points at, from its first field on."""
    for at, value in enumerate(values):
        build.store(value, field(build, struct, at))


def team_entry(
    module: Any,
    name: str,
    struct: Any,
    given: Any,
    function: Any,
    *,
    prepare: Callable[[Any, Any], None] = lambda build, place: None,
) -> None:
    """``name`` takes what is ``given``, the first fields of a ``struct``, and a number of threads as 32 bits; as many
    threads call ``function`` with the address of such a struct, in which ``prepare`` has set the rest.
    """
    entry = ir.Function(module, ir.FunctionType(void, [*given, i32]), name)
    build = ir.IRBuilder(entry.append_basic_block("start"))
    place = build.alloca(struct)
    *values, threads = entry.args
    fill(build, place, values)
    prepare(build, place)
    team_run(build, function, place, threads)
    build.ret_void()


def team_run(build: Any, function: Any, struct: Any, threads: Any) -> None:
    """Let as many threads of torch's OpenMP runtime call ``function`` with the address of ``struct``."""
    parallel = intrinsic(build.module, "GOMP_parallel", void, [address, address, i32, i32])
    given = [build.bitcast(function, address), build.bitcast(struct, address)]
    build.call(parallel, [*given, threads, ir.Constant(i32, 0)])


def team_place(build: Any) -> tuple[Any, Any]:
    """The number of this thread within its team, and that of the team's threads."""
    asked = [intrinsic(build.module, f"omp_get_{what}", i32, []) for what in ("thread_num", "num_threads")]
    own, count = (build.sext(build.call(ask, []), i64) for ask in asked)
    return own, count


def team_part(build: Any, count: Any) -> tuple[Any, Any]:
    """From which to which of ``count`` things this thread's share goes."""
    own, threads = team_place(build)
    return (
        build.sdiv(build.mul(count, own), threads),
        build.sdiv(build.mul(count, build.add(own, number(1))), threads),
    )


def intrinsic(module: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """A function of LLVM's own, or one of another library, declared once."""
    found = module.globals.get(name)
    return found if found is not None else ir.Function(module, ir.FunctionType(result, arguments), name)


def fetch(build: Any, place: Any, level: int) -> None:
    """Ask for the line of memory at ``place``, into the cache of this ``level``."""
    kind = [address, i32, i32, i32]
    prefetch = intrinsic(build.module, "llvm.prefetch.p0", void, kind)
    # To read, which caches to keep it in (3: all of them), data.
    how = (ir.Constant(i32, one) for one in (0, 4 - level, 1))
    build.call(prefetch, [build.bitcast(place, address), *how])


def vector_load(build: Any, place: Any, width: int) -> Any:
    """``width`` floats from ``place`` on, which need not be aligned."""
    return build.load(build.bitcast(place, ir.VectorType(f32, width).as_pointer()), align=4)


def narrow_load(build: Any, place: Any, width: int) -> Any:
    """As ``vector_load`` of values stored as bf16, which are the upper halves of floats."""
    halves = build.load(build.bitcast(place, ir.VectorType(i16, width).as_pointer()), align=2)
    whole = ir.VectorType(i32, width)
    upper = build.shl(build.zext(halves, whole), ir.Constant(whole, [16] * width))
    return build.bitcast(upper, ir.VectorType(f32, width))


def half_load(build: Any, place: Any, width: int) -> Any:
    """As ``vector_load`` of values stored as fp16."""
    halves = build.load(build.bitcast(place, ir.VectorType(f16, width).as_pointer()), align=2)
    return build.fpext(halves, ir.VectorType(f32, width))


def integer_load(build: Any, place: Any, width: int) -> Any:
    """As ``vector_load`` of values stored as int8."""
    small = build.load(build.bitcast(place, ir.VectorType(i8, width).as_pointer()), align=1)
    return build.sitofp(small, ir.VectorType(f32, width))


E4M3_UNIT = 256.0
"""What ``e4m3_load`` leaves to be multiplied by."""


def e4m3_load(build: Any, place: Any, width: int) -> Any:
    """As ``vector_load`` of values stored as e4m3, over E4M3_UNIT: its bits lie in fp16 as they are, whose exponent
    begins eight lower.
    """
    whole = ir.VectorType(i16, width)
    small = build.load(build.bitcast(place, ir.VectorType(i8, width).as_pointer()), align=1)
    moved = build.shl(build.sext(small, whole), ir.Constant(whole, [7] * width))
    # The sign is there twice; the lower one is the exponent's highest bit.
    halves = build.and_(moved, ir.Constant(whole, [0xBFFF] * width))
    return build.fpext(build.bitcast(halves, ir.VectorType(f16, width)), ir.VectorType(f32, width))


def e4m3_store(build: Any, value: Any, place: Any) -> None:
    """A vector as e4m3, to the nearest, to even in the middle; what is beyond ±448 as that, and NaN as -448."""
    width = value.type.count
    whole = ir.VectorType(i32, width)

    def every(number: int) -> Any:
        return ir.Constant(whole, [number] * width)

    least, most = floats(-448.0, width), floats(448.0, width)
    value = build.select(build.fcmp_ordered(">", value, least), value, least)
    value = build.select(build.fcmp_ordered("<", value, most), value, most)
    bits = build.bitcast(value, whole)
    magnitude = build.and_(bits, every(0x7FFFFFFF))
    # Three of the 23 bits are kept: half of the last is added, but one unit less where the kept one is even.
    odd = build.and_(build.lshr(magnitude, every(20)), every(1))
    rounded = build.add(build.add(magnitude, every(0x7FFFF)), odd)
    normal = build.sub(build.lshr(rounded, every(20)), every((127 - 7) << 3))
    # Below 2⁻⁶ the unit is 2⁻⁹, as it is of floats at 2¹⁴.
    shifted = build.fadd(build.bitcast(magnitude, value.type), floats(2.0**14, width))
    tiny = build.sub(build.bitcast(shifted, whole), every((127 + 14) << 23))
    small = build.icmp_signed("<", magnitude, every((127 - 6) << 23))
    sign = build.and_(build.lshr(bits, every(24)), every(0x80))
    stored = build.trunc(build.or_(build.select(small, tiny, normal), sign), ir.VectorType(i8, width))
    build.store(stored, build.bitcast(place, stored.type.as_pointer()), align=1)


def vector_store(build: Any, value: Any, place: Any) -> None:
    build.store(value, build.bitcast(place, value.type.as_pointer()), align=4)


def floats(value: float, width: int) -> Any:
    """A constant vector of one value."""
    return ir.Constant(ir.VectorType(f32, width), [value] * width)


def total(build: Any, vector: Any, *, greatest: bool = False) -> Any:
    """The sum of a vector's values, or the ``greatest`` of them."""
    width = vector.type.count
    if greatest:
        fmax = intrinsic(build.module, f"llvm.vector.reduce.fmax.v{width}f32", f32, [vector.type])
        return build.call(fmax, [vector])
    add = intrinsic(build.module, f"llvm.vector.reduce.fadd.v{width}f32", f32, [f32, vector.type])
    # Which values are added first is left to the processor.
    return build.call(add, [ir.Constant(f32, -0.0), vector], fastmath=("reassoc",))


def totals(build: Any, vectors: Sequence[Any]) -> Any:
    """The sums of four vectors' values, as a vector of four: less than half the work of one after another."""
    first, second, third, fourth = vectors
    sums = _neighbours(build, _neighbours(build, first, second), _neighbours(build, third, fourth))
    while (width := sums.type.count) > len(vectors):
        lower, upper = (part(build, sums, at, width // 2) for at in (0, width // 2))
        sums = build.fadd(lower, upper)
    return sums


def _neighbours(build: Any, left: Any, right: Any) -> Any:
    """In each lane of four, sums of the two pairs of ``left``, then of ``right``."""
    width = left.type.count
    even = [start + at for lane in range(0, width, 4) for start in (lane, width + lane) for at in (0, 2)]
    chosen = (ir.Constant(ir.VectorType(i32, width), [at + shift for at in even]) for shift in (0, 1))
    return build.fadd(*(build.shuffle_vector(left, right, mask) for mask in chosen))


def part(build: Any, vector: Any, first: int, count: int) -> Any:
    """``count`` values of a vector from ``first`` on."""
    mask = ir.Constant(ir.VectorType(i32, count), list(range(first, first + count)))
    return build.shuffle_vector(vector, vector, mask)


def multiply_add(build: Any, left: Any, right: Any, more: Any) -> Any:
    """``left · right + more`` with one rounding."""
    kind = left.type
    name = "f32" if kind == f32 else f"v{kind.count}f32"
    return build.call(intrinsic(build.module, f"llvm.fma.{name}", kind, [kind] * 3), [left, right, more])


# exp(x) = 2ⁿ · exp(r) with n = round(x / ln 2): a polynomial of degree five for exp(r) - 1 - r over r², as in the
# Cephes library's expf (Moshier); ln 2 is subtracted in two parts, so that r loses no digits.
_LOG2E, _LN2_HIGH, _LN2_LOW = 1.44269504088896341, 0.693359375, -2.12194440e-4
_EXP = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)
_EXP_LEAST, _EXP_MOST = -87.0, 89.0


def exponential(build: Any, x: Any) -> Any:
    """exp of a vector to some 2 units of the last place: infinite from 88.4 on, and below -87 what it is there."""
    kind, width = x.type, x.type.count
    whole = ir.VectorType(i32, width)
    least, most = floats(_EXP_LEAST, width), floats(_EXP_MOST, width)
    x = build.select(build.fcmp_ordered(">", x, most), most, x)
    x = build.select(build.fcmp_ordered("<", x, least), least, x)
    rint = intrinsic(build.module, f"llvm.rint.v{width}f32", kind, [kind])
    count = build.call(rint, [build.fmul(x, floats(_LOG2E, width))])
    rest = multiply_add(build, count, floats(-_LN2_HIGH, width), x)
    rest = multiply_add(build, count, floats(-_LN2_LOW, width), rest)
    value = floats(_EXP[0], width)
    for factor in _EXP[1:]:
        value = multiply_add(build, value, rest, floats(factor, width))
    value = multiply_add(build, build.fmul(value, rest), rest, build.fadd(rest, floats(1.0, width)))
    exponent = build.add(build.fptosi(count, whole), ir.Constant(whole, [127] * width))
    power = build.bitcast(build.shl(exponent, ir.Constant(whole, [23] * width)), kind)
    return build.fmul(value, power)
