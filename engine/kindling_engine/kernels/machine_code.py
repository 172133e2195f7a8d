"""What a compiled kernel does in its loops: how it reads, how it multiplies, how often it waits.

Read from the listing that ``nvdisasm`` makes. Facts of the compiler, and no measurement of speed.
"""

import re
from collections import Counter
from dataclasses import dataclass

from kindling_engine.kernels.machine_listing import Instruction, instructions_of, loads_before

_TARGET = re.compile(r"`\((\.L_x_\d+)\)")
_PENDING = re.compile(r"SB0,\s*0x([0-9a-f]+)")
_SHAPE = re.compile(r"64x(\d+)x16")
_WARP = 32
_LARGE = 8


@dataclass(frozen=True, slots=True)
class MainLoop:
    """One iteration of a loop, as one warp runs it.

    ``copies`` past registers into shared memory, ``loads`` into registers, ``stores``: how many there are of each size
    in bytes. ``pending``: of how many iterations copies are still under way when an iteration begins. ``chain``: loads
    from which the first large one comes last, each of which waits for another. ``matrix_cycles``: what Hopper's matrix
    units need for a warp group's products.
    """

    instructions: int
    copies: dict[int, int]
    loads: dict[int, int]
    stores: dict[int, int]
    pending: float
    barriers: int
    chain: int
    products: str
    matrix_cycles: int

    def bytes_read(self, warps: int) -> int:
        """By a thread block of ``warps``, if no lane is masked.

        Beside large loads, small ones are numbers that threads read alike: where pages lie, which rows there are.
        """
        sizes = {**self.copies, **self.loads}
        least = _LARGE if any(size >= _LARGE for size in sizes) else 0
        return (_sum(self.copies, least) + _sum(self.loads, least)) * _WARP * warps

    def bytes_moved(self, warps: int) -> int:
        """Read and written."""
        return self.bytes_read(warps) + _sum(self.stores) * _WARP * warps


def main_loops(listing: str) -> list[MainLoop]:
    """A kernel's innermost loops that read, those first that read most, of as much the shorter ones.

    Where nothing loops, all of the kernel is one.
    """
    found, labels = instructions_of(listing)
    parts = []
    for last, one in enumerate(found):
        target = _TARGET.search(one.operands) if one.name == "BRA" else None
        # The last instruction of every kernel jumps to itself.
        if target and labels.get(target[1], last) < last:
            parts.append((labels[target[1]], last))
    inner = [part for part in parts if not any(_encloses(part, other) for other in parts)]
    loops = [_read(found, first, last) for first, last in inner]
    reading = [loop for loop in loops if loop.bytes_read(1)] or [_read(found, 0, len(found) - 1)]
    return sorted(reading, key=lambda loop: (-loop.bytes_read(1), loop.instructions))


def _encloses(part: tuple[int, int], other: tuple[int, int]) -> bool:
    return part != other and part[0] <= other[0] and other[1] <= part[1]


def _read(found: list[Instruction], first: int, last: int) -> MainLoop:
    part = found[first : last + 1]
    names = Counter(one.name.split(".")[0] for one in part)
    wide = [shape for one in part if one.name.startswith("HGMMA") and (shape := _SHAPE.search(one.name))]
    left = [held for one in part if one.name == "DEPBAR.LE" and (held := _PENDING.search(one.operands))]
    groups = names["LDGDEPBAR"]
    return MainLoop(
        instructions=len(part),
        copies=_sizes(part, "LDGSTS"),
        loads=_sizes(part, "LDG"),
        stores=_sizes(part, "STG"),
        pending=int(left[0][1], 16) / groups if left and groups else 0.0,
        barriers=names["BAR"],
        chain=_chain(found, first, last),
        products="wgmma" if wide else "mma" if names["HMMA"] else "",
        # 2,048 multiply-adds of bf16 a cycle.
        matrix_cycles=sum(int(shape[1]) // 2 for shape in wide),
    )


def _chain(found: list[Instruction], first: int, last: int) -> int:
    """Up to the first copy, which is ahead of the loop, or else to the first of the loop's largest loads."""
    copies = [at for at in range(last + 1) if found[at].kind == "LDGSTS"]
    loads = [at for at in range(first, last + 1) if found[at].kind == "LDG"]
    if not copies and not loads:
        return 0
    at = copies[0] if copies else max(loads, key=lambda one: (found[one].bytes_each, -one))
    return loads_before(found, at) + 1


def _sizes(part: list[Instruction], kind: str) -> dict[int, int]:
    return dict(Counter(one.bytes_each for one in part if one.kind == kind))


def _sum(sizes: dict[int, int], least: int = 0) -> int:
    return sum(size * count for size, count in sizes.items() if size >= least)
