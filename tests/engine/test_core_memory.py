"""Errors that say memory has run out, as torch raises them, and others that do not."""

import logging

import pytest
import torch

from kindling_engine.layers.attention_paged import kernels_take
from kindling_engine.models.memory import out_of_memory


def test_the_allocators_own_words_are_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert out_of_memory(MemoryError())


def test_other_errors_are_none_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2) @ torch.zeros(3)
    assert not out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("head_dim", "group", "dtype"),
    [
        (320, 4, torch.bfloat16),
        (36, 4, torch.bfloat16),
        (8, 4, torch.bfloat16),
        (128, 32, torch.bfloat16),
        (128, 4, torch.float64),
    ],
)
def test_a_shape_without_a_kernel_is_named_once(caplog, head_dim, group, dtype):
    kernels_take.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert not kernels_take(head_dim, group, dtype)
        assert not kernels_take(head_dim, group, dtype)
    assert len(caplog.records) == 1
    assert kernels_take(128, 4, torch.bfloat16) and kernels_take(96, 1, torch.float16)
