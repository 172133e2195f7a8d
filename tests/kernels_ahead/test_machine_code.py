"""What the machine code of the kernels that cost a step most must look like, whatever else is changed about them."""

from functools import cache

from kindling_engine.kernels.ahead import Compiled, compile_ahead
from kindling_engine.kernels.code_report import in_flight_bytes, issue_over_matrix, issue_share
from kindling_engine.kernels.machine_code import MainLoop, main_loops
from kindling_engine.kernels.registry import MODULES

BUSY_BYTES = 36 * 1024
"""Under way on each of an H200's multiprocessors, this keeps its memory busy: 4.8 TB/s for a microsecond, by 132."""


@cache
def _code(*words: str) -> tuple[Compiled, list[MainLoop]]:
    """Of the first case whose name has all ``words``."""
    cases = (case for module in MODULES for case in module.ahead_cases())
    compiled = compile_ahead(next(case for case in cases if all(word in str(case) for word in words)))
    return compiled, compiled.main_loops()


def _first(listing: str) -> MainLoop:
    return main_loops(listing)[0]


def test_decode_attention_waits_for_memory_alone():
    compiled, (loop, *_) = _code("paged_decode 8b", "BLOCK_N=64")
    # K and V of 64 keys come past the registers, and of page numbers alone a thread reads a few bytes at a time.
    assert loop.copies == {16: 64 * 128 * 2 * 2 // (16 * 32 * compiled.warps)}
    assert set(loop.loads) == {4} and loop.loads[4] * 2 <= loop.copies[16]
    assert loop.products == "mma"
    # The next tile is on its way while this one is multiplied, and other blocks have theirs.
    assert loop.pending >= 1 and compiled.side_by_side >= 3
    assert in_flight_bytes(loop, compiled) >= 2 * BUSY_BYTES
    assert issue_share(loop, compiled.warps) < 0.25
    # Rows' maxima, and weights on their way to the second product; sums wait for the end.
    assert loop.barriers <= 6
    # Lengths, a request's row, its pages, its keys.
    assert loop.chain <= 4


def test_pages_in_e4m3_are_read_as_wide_and_widened_in_time():
    compiled, (loop, *_) = _code("paged_decode e4m3")
    assert set(loop.copies) == {16} and set(loop.loads) == {4}
    assert loop.pending >= 1 and compiled.side_by_side >= 3
    assert in_flight_bytes(loop, compiled) >= BUSY_BYTES
    assert issue_share(loop, compiled.warps) < 0.7


def test_prefill_attention_multiplies_by_warp_groups_with_the_next_tile_on_its_way():
    for words in (("BLOCK_N=64", "warps=8"), ("BLOCK_N=128",), ("registers=128",)):
        compiled, (loop, *_) = _code("paged_prefill 8b", *words)
        assert loop.products == "wgmma", words
        assert set(loop.copies) == {16} and set(loop.loads) == {4}, words
        assert loop.pending >= 1 and loop.barriers <= 2, words
        assert issue_over_matrix(loop) < 1.1, words
        assert compiled.spilled_bytes == 0, words
    assert compiled.side_by_side == 2  # the last one's purpose


def test_experts_weights_come_past_the_registers():
    compiled, (loop, *_) = _code("moe grouped", "BLOCK_N=128", "warps=4")
    assert loop.products == "mma" and not loop.loads
    assert set(loop.copies) == {16} and loop.pending >= 2
    assert in_flight_bytes(loop, compiled) >= 2 * BUSY_BYTES


def test_adapters_of_single_rows_are_found_in_three_loads():
    shrink, loops = _code("lora_shrink 16")
    loop = next(one for one in loops if not one.products)
    assert loop.copies[16] and not loop.loads and loop.pending >= 1
    assert loop.chain == 3
    assert in_flight_bytes(loop, shrink) >= BUSY_BYTES
    expand, (loop, *_) = _code("lora_expand 16")
    assert set(loop.loads) == {16}
    assert loop.chain == 3 and loop.barriers <= 5
    assert in_flight_bytes(loop, expand) >= 2 * BUSY_BYTES


def test_rows_are_read_sixteen_bytes_at_a_time_and_all_at_once():
    for words in (("rms_norm 4096 add", "warps=8"), ("gate silu", "BLOCK=1024")):
        compiled, (loop, *_) = _code(*words)
        assert set(loop.loads) == {16} and set(loop.stores) == {16}, words
        assert loop.chain == 1, words
        assert issue_share(loop, compiled.warps) < 0.75, words


LISTING = """
.text.kernel:
        /*0000*/                   LDG.E R2, desc[UR4][R8.64] ;
        /*0010*/                   LDG.E.64 R4, desc[UR4][R10.64] ;
        /*0020*/                   IMAD.WIDE R6, R2, 0x4, R4 ;
        /*0030*/                   ISETP.GE.AND P0, PT, R2, RZ, PT ;
        /*0040*/              @!P0 EXIT ;
.L_x_0:
        /*0050*/                   LDG.E.128 R12, desc[UR4][R6.64] ;
        /*0060*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0070*/                   HGMMA.64x128x16.F32.BF16 R24, R12, gdesc[UR8].tnspB, R24 ;
        /*0080*/               @P1 BRA `(.L_x_0) ;
        /*0090*/                   STG.E.64 desc[UR4][R6.64], R24 ;
.L_x_1:
        /*00a0*/                   BRA `(.L_x_1) ;
"""


def test_a_listing_is_read_for_what_it_says():
    loop = _first(LISTING)
    assert (loop.instructions, loop.loads, loop.copies, loop.stores) == (4, {16: 1}, {}, {})
    assert (loop.barriers, loop.products, loop.matrix_cycles) == (1, "wgmma", 64)
    assert loop.chain == 2
    # The branch waits for a load just as an address does.
    assert _first(LISTING.replace("R2, 0x4, R4", "R3, 0x4, R5")).chain == 2
    assert (
        _first(LISTING.replace("@!P0 EXIT", "@!P2 EXIT").replace("R2, 0x4, R4", "R30, 0x4, R31")).chain == 1
    )
    assert _first(LISTING.replace("@P1 BRA `(.L_x_0)", "NOP")).stores == {8: 1}
