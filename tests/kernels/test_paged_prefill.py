"""Prefill attention over paged KV against scores written out, in every configuration."""

import pytest
import torch

from kindling_engine.kernels.paged_prefill import CONFIGS, configs_for, paged_prefill
from kindling_engine.kernels.tuning import Config, error_of
from kindling_engine.layers.attention_spec import AttentionSpec
from kindling_paged import TOLERANCE, PagedCase, paged_case

SPEC = AttentionSpec(scale=0.2)
SMALL = Config({"BLOCK_M": 16, "BLOCK_N": 16}, num_warps=4, num_stages=1)
"""Many tiles of few keys, so that every sweep has some."""


def _prefilled(case: PagedCase, spec: AttentionSpec, **others):
    """The kernel's output and log-sums."""
    lse = torch.full(case.query.shape[:2], float("nan"), device=case.query.device)
    longest = int(case.query_starts.diff().max())
    arguments = {"max_query": longest, **case.scales, **others}
    output = paged_prefill(
        case.query,
        *case.pages,
        case.block_tables,
        case.rows,
        case.query_starts,
        case.lengths,
        spec=spec,
        lse=lse,
        **arguments,
    )
    return output, lse


def _check(case: PagedCase, spec: AttentionSpec, sinks=None, **others) -> None:
    output, lse = _prefilled(case, spec, sinks=sinks, **others)
    expected, expected_lse = case.expected(spec, sinks=sinks)
    tolerance = TOLERANCE[case.query.dtype]
    assert error_of(output, expected) <= tolerance
    torch.testing.assert_close(lse, expected_lse, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_configuration(device, dtype, config):
    case = paged_case(device, dtype, queries=[70, 0, 1], lengths=[170, 0, 20])
    _check(case, SPEC, config=config)


def test_chunks_of_any_length_after_any_prefix(device, dtype):
    case = paged_case(device, dtype, queries=[1, 7, 0, 33, 16], lengths=[1, 60, 0, 33, 17], kv_heads=1)
    _check(case, SPEC, config=SMALL)


@pytest.mark.parametrize("window", [1, 20, 40, 500])
def test_windows(device, window):
    case = paged_case(device, torch.float16, queries=[21, 5], lengths=[90, 64], kv_heads=1)
    _check(case, AttentionSpec(scale=0.3, window=window), config=SMALL)


def test_window_cap_and_sinks(device):
    case = paged_case(device, torch.float16, queries=[9, 20], lengths=[50, 20], group=2)
    sinks = torch.tensor([3.0, -2.0, 0.0, 5.0], device=device)
    _check(case, AttentionSpec(scale=0.3, softcap=4.0), sinks=sinks)
    _check(case, AttentionSpec(scale=0.3, window=18, softcap=4.0), sinks=sinks, config=SMALL)


@pytest.mark.parametrize(("head_dim", "group"), [(96, 1), (128, 16), (256, 7)])
def test_shapes(device, head_dim, group):
    case = paged_case(
        device, torch.float16, queries=[9], lengths=[75], kv_heads=1, group=group, head_dim=head_dim
    )
    _check(case, AttentionSpec(scale=head_dim**-0.5))


def test_narrow_pages_with_a_scale_of_each_head(device, dtype):
    case = paged_case(
        device, dtype, queries=[9, 3], lengths=[75, 3], page_dtype=torch.float8_e4m3fn, head_dim=64
    )
    _check(case, SPEC)
    _check(case, AttentionSpec(scale=0.2, softcap=3.0))


def test_rows_of_no_request_are_left_alone(device, dtype):
    """A step's decodes lie before its chunks and a graph's padding behind them; a bound may be generous."""
    case = paged_case(device, dtype, queries=[20, 5], lengths=[20, 30], group=1)
    around = torch.cat((case.query[:3], case.query, case.query[:4]))
    fused = torch.cat((around, around), dim=1)[:, :2]
    wide = torch.full((32, 100), 7.0, dtype=dtype, device=device)
    output = paged_prefill(
        fused,
        *case.pages,
        case.block_tables,
        case.rows,
        case.query_starts + 3,
        case.lengths,
        spec=SPEC,
        max_query=64,
        out=wide[:, 20:84],
    )
    assert fused.stride(0) != 2 * 32 and output.stride(0) == 100
    assert error_of(output[3:28], case.expected(SPEC)[0]) <= TOLERANCE[dtype]
    wide[3:28, 20:84] = 7.0
    assert torch.equal(wide, torch.full_like(wide, 7.0))


def test_as_the_layers_reference_attends(device):
    from kindling_engine.layers.attention import AttentionInputs, LayerCache, PrefillRows
    from kindling_engine.layers.attention_reference import paged_attention_reference

    case = paged_case(device, torch.float32, queries=[20, 30], lengths=[45, 30])
    keys, values = (pages.nan_to_num(0.0) for pages in case.pages)
    slots = tuple(pages.view(2, -1, 32) for pages in (keys, values))
    tables = case.block_tables[case.rows.long()].long()
    position = torch.cat((torch.arange(25, 45), torch.arange(30))).to(device)
    request = torch.tensor([0] * 20 + [1] * 30, device=device)
    slot = tables[request, position // 16] * 16 + position % 16
    chunks = tuple(
        PrefillRows(start, stop, before, table.cpu().numpy(), torch.float32, device)
        for start, stop, before, table in ((0, 20, 25, tables[0]), (20, 50, 0, tables[1]))
    )
    for spec in (AttentionSpec(scale=0.2), AttentionSpec(scale=0.2, window=20, softcap=5.0)):
        expected = paged_attention_reference(
            case.query,
            slots[0][:, slot].transpose(0, 1).clone(),
            slots[1][:, slot].transpose(0, 1).clone(),
            LayerCache(keys, values, *slots),
            AttentionInputs(slot, None, chunks),
            spec,
        )
        output, _ = _prefilled(case, spec)
        assert error_of(output, expected) <= TOLERANCE[torch.float32]


def test_a_captured_graph_follows_chunks(device):
    if device.type != "cuda":
        pytest.skip("only a GPU captures graphs")
    case = paged_case(device, torch.float16, queries=[100, 60], lengths=[400, 60])
    _prefilled(case, SPEC, max_query=160)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = paged_prefill(
            case.query,
            *case.pages,
            case.block_tables,
            case.rows,
            case.query_starts,
            case.lengths,
            spec=SPEC,
            max_query=160,
        )
    for starts, lengths in (([0, 100, 160], [400, 60]), ([0, 150, 160], [300, 40])):
        case.query_starts.copy_(torch.tensor(starts, dtype=torch.int32))
        case.lengths.copy_(torch.tensor(lengths, dtype=torch.int32))
        graph.replay()
        assert error_of(output, case.expected(SPEC)[0]) <= TOLERANCE[torch.float16]


def test_every_shape_has_a_configuration():
    for page_dtype in (torch.bfloat16, torch.float8_e4m3fn):
        for head_dim in (64, 96, 128, 256):
            assert configs_for(head_dim, torch.bfloat16, page_dtype, 4096)
    first = configs_for(128, torch.bfloat16, torch.bfloat16, 32)[0]
    assert first.tiles["BLOCK_M"] == 64, "a short chunk fills no tile of 128 rows"
