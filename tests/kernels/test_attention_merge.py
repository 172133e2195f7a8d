"""Two parts of a request's keys merged, against the reference and against attention over all of them."""

import pytest
import torch

from kindling_engine.kernels.attention_merge import CONFIGS, merge_attention, merge_reference
from kindling_engine.kernels.tuning import error_of

TOLERANCE = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def _part(device, dtype, seed, *, tokens=3, heads=5, head_dim=48):
    generator = torch.Generator().manual_seed(seed)
    out = torch.randn(tokens, heads * head_dim, generator=generator).to(device=device, dtype=dtype)
    return out, (4 * torch.randn(tokens, heads, generator=generator)).to(device)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_configuration(device, dtype, config):
    a, b = _part(device, dtype, 0), _part(device, dtype, 1)
    a[1][0, 0] = b[1][1, 2] = float("-inf")
    a[1][2, 4] = b[1][2, 4] = float("-inf")
    a[1][1, 1] = 2000.0
    expected, expected_lse = merge_reference(*a, *b)
    assert not expected.view(3, 5, 48)[2, 4].any(), "no keys, no output"
    output, lse = merge_attention(*a, *b, config=config)
    assert output is a[0] and lse is a[1]
    assert error_of(output, expected) <= TOLERANCE[dtype]
    torch.testing.assert_close(lse, expected_lse)


def test_reference_is_attention_over_all_keys():
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(2, 5, 12, generator=generator)
    values = torch.randn(5, 12, 48, generator=generator)

    def attended(keys: slice) -> tuple[torch.Tensor, torch.Tensor]:
        weights = scores[..., keys].softmax(-1)
        return torch.einsum("nhk,hkd->nhd", weights, values[:, keys]).flatten(1), scores[..., keys].logsumexp(
            -1
        )

    output, lse = merge_reference(*attended(slice(0, 7)), *attended(slice(7, 12)))
    expected, expected_lse = attended(slice(0, 12))
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(lse, expected_lse)
