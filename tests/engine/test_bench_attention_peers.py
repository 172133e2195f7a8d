"""Peers of the attention kernels: by which name they are found, and that each shape is compiled."""

import sys

import pytest
import torch

from kindling_engine.bench.kernel import attention_peers
from kindling_engine.kernels.paged_inputs import PagedInputs, Shape, paged_inputs

FLASH = """
def flash_attn_func(query, keys, values, softmax_scale, causal):
    return query * 0 + {number}
"""


def _inputs() -> PagedInputs:
    dtype, device = torch.float32, torch.device("cpu")
    return paged_inputs(
        Shape(2, 1, 16),
        requests=1,
        q_len=2,
        length=20,
        dtype=dtype,
        page_dtype=dtype,
        device=device,
        seed=0,
    )


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        (("flash_attn_interface", "fa3_fwd_interface"), 2),
        (("fa3_fwd_interface",), 1),
        (("flash_attn_interface",), 1),
    ],
)
def test_flash_attention_is_found_by_the_name_of_either_wheel(installed, found, tmp_path, monkeypatch):
    for number, name in enumerate(installed, start=1):
        (tmp_path / f"{name}.py").write_text(FLASH.format(number=number))
    monkeypatch.syspath_prepend(tmp_path)
    try:
        output = attention_peers.attention_peers()["fa3"](_inputs())()
    finally:
        for name in installed:
            sys.modules.pop(name, None)
    assert output.shape == (2, 32) and output.unique().tolist() == [found]


def test_a_peer_that_is_not_installed_says_so():
    with pytest.raises(ModuleNotFoundError, match="flash_attn_interface"):
        attention_peers.attention_peers()["fa3"](_inputs())


def test_every_shape_is_compiled_however_many_there_are(monkeypatch):
    compiled = []

    def backend(graph, inputs):
        compiled.append([tuple(one.shape) for one in inputs])
        return graph.forward

    compile_as_is = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, **more: compile_as_is(function, backend=backend, **more)
    )
    monkeypatch.setattr(attention_peers, "_COMPILED", {})

    def doubled(x):
        return x * 2

    shapes = [(rows, 3) for rows in range(2, 22)]
    for shape in shapes:
        assert attention_peers._compiled(doubled)(torch.ones(shape)).sum() == 6 * shape[0]
    assert compiled == [[shape] for shape in shapes]
