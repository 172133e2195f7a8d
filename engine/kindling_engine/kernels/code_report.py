"""Prints what the compiler makes of each kernel for a Hopper GPU, on a machine that has none.

    python -m kindling_engine.kernels.code_report [words that a kernel's name has]

Of the loop that reads most, with each kind of products, or of all of a kernel without one: ``blocks`` are thread blocks
that a multiprocessor holds; ``chain`` loads that wait for one another until the first large one is asked for; ``in
flight`` what a multiprocessor has asked for and not got when an iteration begins (some 36 KB keep an H200's memory
busy); ``issue`` the share of its cycles that go to issuing instructions if it is to move bytes as fast as memory does;
``over matrix`` the same over what the matrix units need. Kernels that copy nothing ahead have in flight what they read
into registers.
"""

import sys

from kindling_engine.kernels.ahead import Case, Compiled, compile_ahead
from kindling_engine.kernels.machine_code import MainLoop
from kindling_engine.kernels.registry import MODULES

BYTES_A_CYCLE = 4.26e12 / 132 / 1.755e9
"""Of a multiprocessor's 132nd part of an H200's memory, at its clock under load."""
_SCHEDULERS = 4


def issue_share(loop: MainLoop, warps: int) -> float:
    """Of the cycles that memory takes for an iteration; more than 1, and memory waits for the kernel."""
    return loop.instructions * warps / _SCHEDULERS / (loop.bytes_moved(warps) / BYTES_A_CYCLE)


def issue_over_matrix(loop: MainLoop) -> float:
    """Cycles of issuing for a cycle of the matrix units, which work side by side if several warp groups take turns."""
    return loop.instructions / loop.matrix_cycles


def in_flight_bytes(loop: MainLoop, compiled: Compiled) -> int:
    """Of a multiprocessor: what is copied ahead, or all that an iteration reads where it is read into registers."""
    ahead = loop.pending if loop.copies else 1.0
    return int(loop.bytes_read(compiled.warps) * ahead * compiled.side_by_side)


def rows(case: Case) -> list[str]:
    """Lines of the table: the loop that reads most of those with each kind of products."""
    compiled = compile_ahead(case)
    kinds: dict[str, MainLoop] = {}
    for loop in compiled.main_loops():
        kinds.setdefault(loop.products, loop)
    return [_row(case, compiled, loop) for loop in kinds.values()]


def _row(case: Case, compiled: Compiled, loop: MainLoop) -> str:
    reads = [
        f"{count} × {size}{kind}"
        for sizes, kind in ((loop.copies, " async"), (loop.loads, ""))
        for size, count in sorted(sizes.items(), reverse=True)
    ]
    moved = loop.bytes_moved(compiled.warps)
    cells = (
        *(case, compiled.registers, compiled.shared_bytes // 1024, compiled.side_by_side),
        *(", ".join(reads), loop.chain, loop.products, loop.barriers, loop.instructions),
        *(loop.bytes_read(compiled.warps), in_flight_bytes(loop, compiled) // 1024),
        f"{issue_share(loop, compiled.warps):.0%}" if moved else "",
        f"{issue_over_matrix(loop):.0%}" if loop.matrix_cycles else "",
    )
    return f"| {' | '.join(map(str, cells))} |"


def main(words: list[str]) -> None:
    """Print the table."""
    _say(
        "| kernel | registers | shared, KB | blocks | reads of a thread, bytes | chain | products | barriers"
        " | instructions | bytes read | in flight, KB | issue | over matrix |"
    )
    _say(f"|{'---|' * 13}")
    for case in (case for module in MODULES for case in module.ahead_cases()):
        if all(word in str(case) for word in words):
            for line in rows(case):
                _say(line)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
