"""Decode attention over paged KV against scores written out, in every configuration."""

import pytest
import torch

from kindling_engine.kernels import paged_decode as module
from kindling_engine.kernels.paged_decode import CONFIGS, DecodeWorkspace, paged_decode
from kindling_engine.kernels.tuning import error_of
from kindling_engine.layers.attention_spec import AttentionSpec
from kindling_paged import TOLERANCE, PagedCase, paged_case

SPEC = AttentionSpec(scale=0.2)


def _decoded(case: PagedCase, spec: AttentionSpec, *, q_len: int = 1, max_splits: int = 4, **others):
    """The kernel's output and log-sums."""
    tokens, heads, head_dim = case.query.shape
    workspace = DecodeWorkspace.make(
        requests=tokens // q_len,
        q_len=q_len,
        heads=heads,
        kv_heads=case.pages[0].shape[0],
        head_dim=head_dim,
        max_splits=max_splits,
        device=case.query.device,
    )
    lse = torch.full((tokens, heads), float("nan"), device=case.query.device)
    output = paged_decode(
        case.query,
        *case.pages,
        case.block_tables,
        case.rows,
        case.lengths,
        spec=spec,
        q_len=q_len,
        max_splits=max_splits,
        workspace=workspace,
        lse=lse,
        **case.scales,
        **others,
    )
    return output, lse, workspace


def _check(case: PagedCase, spec: AttentionSpec, sinks=None, tolerance=None, **others) -> DecodeWorkspace:
    output, lse, workspace = _decoded(case, spec, sinks=sinks, **others)
    expected, expected_lse = case.expected(spec, sinks=sinks)
    tolerance = tolerance or TOLERANCE[case.query.dtype]
    assert error_of(output, expected) <= tolerance
    torch.testing.assert_close(lse, expected_lse, atol=tolerance, rtol=tolerance)
    return workspace


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_configuration(device, dtype, config):
    case = paged_case(device, dtype, queries=[1] * 2, lengths=[270, 1])
    workspace = _check(case, SPEC, max_splits=2, config=config)
    assert workspace.pieces[:, 1].tolist() == [2, 1]


def test_keys_uncut_without_a_workspace(device, dtype):
    case = paged_case(device, dtype, queries=[1] * 3, lengths=[40, 1, 0])
    output = paged_decode(
        case.query,
        *case.pages,
        case.block_tables,
        case.rows,
        case.lengths,
        spec=SPEC,
        max_splits=1,
        workspace=None,
    )
    assert error_of(output, case.expected(SPEC)[0]) <= TOLERANCE[dtype]
    assert not output[2].any(), "a padding row is zero"


@pytest.mark.parametrize("max_splits", [1, 3])
def test_window_cap_and_sinks_over_several_tokens(device, max_splits):
    case = paged_case(device, torch.float16, queries=[3] * 2, lengths=[110, 3], group=2)
    sinks = torch.tensor([3.0, -2.0, 0.0, 5.0], device=device)
    for spec in (
        AttentionSpec(scale=0.3, window=75, softcap=4.0),
        AttentionSpec(scale=0.3, window=7),
        AttentionSpec(scale=0.3),
    ):
        _check(case, spec, sinks=sinks, q_len=3, max_splits=max_splits, config=CONFIGS[1])


@pytest.mark.parametrize(("head_dim", "group", "q_len"), [(96, 1, 2), (128, 16, 1), (256, 7, 1), (64, 2, 33)])
def test_shapes(device, head_dim, group, q_len):
    case = paged_case(
        device, torch.float16, queries=[q_len], lengths=[140], kv_heads=1, group=group, head_dim=head_dim
    )
    _check(case, AttentionSpec(scale=head_dim**-0.5), q_len=q_len, max_splits=2)


def test_narrow_pages_with_a_scale_of_each_head(device, dtype):
    case = paged_case(
        device, dtype, queries=[1] * 2, lengths=[140, 30], page_dtype=torch.float8_e4m3fn, head_dim=64
    )
    _check(case, SPEC)
    _check(case, AttentionSpec(scale=0.2, softcap=3.0), max_splits=1)


def test_tokens_may_lie_apart(device, dtype):
    case = paged_case(device, dtype, queries=[1] * 2, lengths=[90, 30])
    fused = torch.cat((case.query, case.query), dim=1)[:, :6]
    wide = torch.zeros(2, 400, dtype=dtype, device=device)
    output = paged_decode(
        fused,
        *case.pages,
        case.block_tables,
        case.rows,
        case.lengths,
        spec=SPEC,
        max_splits=1,
        workspace=None,
        out=wide[:, 50:242],
    )
    assert fused.stride(0) != 6 * 32 and output.stride(0) == 400
    assert error_of(output, case.expected(SPEC)[0]) <= TOLERANCE[dtype]
    assert not wide[:, :50].any() and not wide[:, 242:].any()


def test_a_long_request_is_cut_finer_than_short_ones(device, monkeypatch):
    monkeypatch.setattr(module, "_PIECES_PER_MULTIPROCESSOR", 12)
    monkeypatch.setattr(module, "_multiprocessors", lambda device: 1)
    lengths = [20, 350, 0, 32, 20]
    case = paged_case(device, torch.float16, queries=[1] * 5, lengths=lengths, group=1)
    workspace = _check(case, SPEC, max_splits=32, config=CONFIGS[1])
    begin, count = workspace.pieces.T.tolist()
    # 422 keys over 6 pieces for each of the 2 heads: 71 keys each, which in whole tiles of 32 are 96.
    assert count == [1, 4, 1, 1, 1]
    assert begin == [0, 1, 5, 6, 7]


def test_as_the_layers_reference_attends(device):
    from kindling_engine.layers.attention import AttentionInputs, DecodeRows, LayerCache
    from kindling_engine.layers.attention_reference import paged_attention_reference

    case = paged_case(device, torch.float32, queries=[1] * 2, lengths=[70, 33])
    keys, values = (pages.nan_to_num(0.0) for pages in case.pages)
    slots = tuple(pages.view(2, -1, 32) for pages in (keys, values))
    tables, lengths = case.block_tables[case.rows.long()].long(), case.lengths.long()
    last = lengths - 1
    slot = tables.gather(1, (last // 16)[:, None])[:, 0] * 16 + last % 16
    rows = DecodeRows(tables.cpu().numpy(), lengths.cpu().numpy(), torch.float32, device)
    for spec in (AttentionSpec(scale=0.2), AttentionSpec(scale=0.2, window=20, softcap=5.0)):
        expected = paged_attention_reference(
            case.query,
            slots[0][:, slot].transpose(0, 1).clone(),
            slots[1][:, slot].transpose(0, 1).clone(),
            LayerCache(keys, values, *slots),
            AttentionInputs(slot, rows, ()),
            spec,
        )
        output, *_ = _decoded(case, spec, max_splits=1)
        assert error_of(output, expected) <= TOLERANCE[torch.float32]


def test_a_captured_graph_follows_lengths(device):
    if device.type != "cuda":
        pytest.skip("only a GPU captures graphs")
    case = paged_case(device, torch.float16, queries=[1] * 4, lengths=[400, 300, 500, 64])
    other = paged_case(device, torch.float16, queries=[1] * 4, lengths=[3, 0, 1200, 700])
    assert not torch.equal(case.lengths, other.lengths)
    shared = PagedCase(
        case.query, other.pages, other.block_tables, other.rows, case.query_starts, other.lengths.clone(), {}
    )
    _decoded(shared, SPEC)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output, lse, _ = _decoded(shared, SPEC)
    for lengths in ([3, 0, 1200, 700], [1, 0, 40, 650]):
        shared.lengths.copy_(torch.tensor(lengths, dtype=torch.int32))
        graph.replay()
        expected, expected_lse = shared.expected(SPEC)
        assert error_of(output, expected) <= TOLERANCE[torch.float16]
        torch.testing.assert_close(lse, expected_lse, atol=4e-3, rtol=4e-3)
