"""Adapter files from strangers: every refusal is a finding with a reason and a fix, and nothing is ever raised."""

import json
import random
import struct
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling_adapter_headers import BASE, CONFIG, Header, check, data_bytes, failed, tensors
from kindling_engine.protocol.adapter_files import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    BaseShape,
    check_adapter_folder,
    check_config,
    check_safetensors_header,
)
from kindling_engine.protocol.safetensors_header import MAX_HEADER_BYTES
from kindling_engine.starter import ADAPTER_PATHS
from kindling_examples import examples


def write(folder: Path, config: Any, weights: bytes) -> Path:
    (folder / CONFIG_NAME).write_bytes(config if isinstance(config, bytes) else json.dumps(config).encode())
    (folder / WEIGHTS_NAME).write_bytes(weights)
    return folder


def packed(header: Header) -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(data_bytes(header))


def test_a_good_folder_passes_and_is_described(tmp_path: Path):
    report = check_adapter_folder(write(tmp_path, CONFIG, packed(tensors())), BASE)
    assert report.ok, report.findings
    assert report.rank == 8
    assert report.target_modules == ["q_proj", "down_proj"]
    assert report.dtype == "F32"
    assert report.parameters == 3 * 8 * (64 + 64 + 112 + 64)
    assert report.size_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted(ADAPTER_PATHS))
def test_the_starter_adapters_pass(name: str):
    base = BaseShape("LlamaForCausalLM", 128, 352, 4, 4, 2, 32, 2048, "kindling/spark")
    report = check_adapter_folder(ADAPTER_PATHS[name], base)
    assert report.ok, report.findings


@pytest.mark.parametrize(
    "targets",
    [
        "all-linear",
        "q_proj",
        r".*\.(q|down)_proj",
        "(a+)+$",
        r"^(?!.*vision).*(?:q|down)_proj$",
        ["q_proj", "down_proj"],
        ["model.layers.0.mlp.up_proj"],
    ],
)
def test_every_form_of_target_modules_is_accepted(targets: Any):
    assert check_config(json.dumps(CONFIG | {"target_modules": targets}).encode(), BASE).ok


@pytest.mark.parametrize(
    "change",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 8, "k_proj": 4, "model.layers.0.mlp.down_proj": 8}},
        {"alpha_pattern": {"^model.layers.1.self_attn.q_proj": 64}},
        {"modules_to_save": None, "layers_to_transform": None, "loftq_config": {}},
        {"layers_to_transform": [0, 1, 2]},
        {"init_lora_weights": "gaussian"},
        {"target_modules": r".*\.(q|down)_proj"},
        {"target_modules": r"(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|down_proj)))"},
        {"target_modules": "all-linear", "exclude_modules": ["lm_head"]},
        {"exclude_modules": r".*\.lm_head", "layers_to_transform": [0, 1, 2], "layers_pattern": "layers"},
        {"rank_pattern": {r".*\.[kv]_proj": 4}, "alpha_pattern": {r"model\.layers\.[01]\..*": 64}},
        {"ensure_weight_tying": True},
    ],
)
def test_what_peft_offers_beside_is_accepted(change: dict[str, Any]):
    report = check_config(json.dumps(CONFIG | change).encode(), BASE)
    assert report.ok, report.findings
    assert check(tensors(), CONFIG | change).ok


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"peft_type": "IA3"}, "peft_type", "IA3"),
        ({"peft_type": None}, "peft_type", "LORA"),
        ({"modules_to_save": ["lm_head"]}, "peft_type", "modules_to_save"),
        ({"bias": "all"}, "peft_type", "bias"),
        ({"lora_bias": True}, "peft_type", "lora_bias"),
        ({"fan_in_fan_out": True}, "peft_type", "fan_in_fan_out"),
        ({"trainable_token_indices": [1]}, "peft_type", "trainable_token_indices"),
        ({"layer_replication": [[0, 2]]}, "peft_type", "layer_replication"),
        ({"alora_invocation_tokens": [1]}, "peft_type", "alora_invocation_tokens"),
        ({"use_next_years_idea": True}, "peft_type", "use_next_years_idea"),
        ({"init_lora_weights": "pissa_niter_4"}, "peft_type", "init_lora_weights"),
        ({"r": 0}, "rank", "r "),
        ({"r": 257}, "rank", "256"),
        ({"r": True}, "rank", "r "),
        ({"r": "8"}, "rank", "r "),
        ({"r": 10**4000}, "rank", "256"),
        ({"rank_pattern": {"q_proj": 4096}}, "rank", "rank_pattern"),
        ({"rank_pattern": [8]}, "rank", "rank_pattern"),
        ({"rank_pattern": {r"(q)_proj\1": 4}}, "rank", "rank_pattern"),
        ({"alpha_pattern": {"(?<=q)_proj": 4}}, "rank", "alpha_pattern"),
        ({"alpha_pattern": {f"q{n}.*": 4 for n in range(65)}}, "rank", "alpha_pattern"),
        ({"lora_alpha": float("nan")}, "rank", "lora_alpha"),
        ({"lora_alpha": "16"}, "rank", "lora_alpha"),
        ({"lora_alpha": 1e300}, "rank", "lora_alpha"),
        ({"target_modules": ["c_attn"]}, "target_modules", "c_attn"),
        ({"target_modules": ["q_proj", "gate"]}, "target_modules", "gate"),
        ({"target_modules": "((a{900}){900})"}, "target_modules", "target_modules"),
        ({"target_modules": "q_proj)"}, "target_modules", "target_modules"),
        ({"target_modules": "(?i:q_proj)"}, "target_modules", "target_modules"),
        ({"exclude_modules": "["}, "target_modules", "exclude_modules"),
        ({"exclude_modules": {"q_proj": 1}}, "target_modules", "exclude_modules"),
        ({"layers_to_transform": [1], "layers_pattern": "h.*"}, "target_modules", "layers_pattern"),
        ({"target_parameters": ["w1"]}, "target_modules", "target_parameters"),
        ({"target_parameters": {"gate_up_proj": 1}}, "target_modules", "target_parameters"),
        ({"use_dora": True, "target_parameters": ["gate_up_proj"]}, "peft_type", "target_parameters"),
        ({"target_modules": []}, "target_modules", "target_modules"),
        ({"target_modules": {"q_proj": 1}}, "target_modules", "target_modules"),
        ({"target_modules": [["q_proj"]]}, "target_modules", "target_modules"),
        ({"layers_to_transform": ["0"]}, "target_modules", "layers_to_transform"),
    ],
)
def test_an_unserved_option_is_refused_by_its_name(change: dict[str, Any], code: str, named: str):
    report = check_config(json.dumps(CONFIG | change).encode(), BASE)
    assert failed(report) == {code}
    assert any(named in finding.message for finding in report.findings if finding.level == "fail")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"r": 8, "r": 9}', b" " * (1 << 20) + b"{}"],
    ids=range(8),
)
def test_a_config_that_is_no_object_is_refused(content: bytes):
    assert failed(check_config(content, BASE)) == {"config_json"}


def test_another_base_is_a_warning_only():
    report = check_config(json.dumps(CONFIG | {"base_model_name_or_path": "/home/x/Other-7B"}).encode(), BASE)
    assert report.ok
    assert [finding.level for finding in report.findings if finding.check == "base_model"] == ["warn"]


def rename(old: str, new: str) -> Any:
    def change(header: Header) -> Header:
        return {name.replace(old, new): entry for name, entry in header.items()}

    return change


def edit(place: int, **fields: Any) -> Any:
    def change(header: Header) -> Header:
        name = list(header)[place]
        return header | {name: header[name] | fields}

    return change


def without(place: int) -> Any:
    """Drop the last tensor's entry (and its bytes with it)."""
    return lambda header: {name: header[name] for name in list(header)[:place]}


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (edit(0, shape=[64, 8]), "tensor_shapes"),
        (edit(1, shape=[32, 16]), "tensor_shapes"),
        (edit(0, shape=[512]), "tensor_shapes"),
        (without(-1), "tensor_shapes"),
        (rename("layers.2", "layers.3"), "target_modules"),
        (rename("layers.1", "layers.01"), "target_modules"),
        (rename("q_proj", "c_attn"), "target_modules"),
        (rename("model.layers.0.self_attn.q_proj", "lm_head"), "tensor_shapes"),
        (rename("model.layers.0.self_attn.q_proj", "model.embed_tokens"), "tensor_shapes"),
        (rename("model.layers.0.self_attn.q_proj", "model.norm"), "target_modules"),
        (rename("lora_", "lora_embedding_"), "target_modules"),
        (rename("lora_A.weight", "lora_embedding_A"), "tensor_shapes"),
        (rename("layers.0.self_attn.q_proj.lora_B", "layers.0.self_attn.q_proj.base_layer"), "tensor_shapes"),
        (rename("layers.0.self_attn.q_proj", "embed_tokens.weight"), "target_modules"),
        (rename("self_attn.q_proj", "mlp.experts"), "target_modules"),
        (edit(0, dtype="I32"), "dtype"),
        (edit(0, dtype="F31"), "safetensors_header"),
        (edit(0, data_offsets=[0, 2**60]), "safetensors_header"),
        (edit(0, shape=[2**60, 2**60]), "safetensors_header"),
        (edit(0, shape=[-8, -64]), "safetensors_header"),
        (edit(0, shape=[8.0, 64]), "safetensors_header"),
        (edit(0, shape=[True, 512]), "safetensors_header"),
        (edit(1, data_offsets=[0, 2048]), "safetensors_header"),
        (edit(0, data_offsets=[4096, 2048]), "safetensors_header"),
        (edit(0, extra=1), "safetensors_header"),
        (lambda header: {"x": 3}, "safetensors_header"),
        (lambda header: {}, "safetensors_header"),
        (lambda header: {"__metadata__": {"format": "pt"}}, "safetensors_header"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused(spoil: Any, code: str | None):
    header = tensors()
    raw = json.dumps(spoil(header)).encode()
    known = [entry for name, entry in spoil(header).items() if isinstance(entry, dict) and "dtype" in entry]
    size = max((entry["data_offsets"][1] for entry in known), default=0)
    report = check_safetensors_header(raw, 8 + len(raw) + min(size, data_bytes(header)), BASE, CONFIG)
    assert failed(report) == ({code} if code else set())


def test_a_layer_under_two_names_is_refused():
    header = tensors(("q_proj",), layers=1)
    end = data_bytes(header)
    for name, entry in list(header.items()):
        begin, stop = entry["data_offsets"]
        header[name.replace("layers.0", "layers.00")] = entry | {"data_offsets": [end + begin, end + stop]}
    assert failed(check(header)) == {"target_modules"}


def test_duplicate_names_are_refused():
    raw = json.dumps(tensors(("q_proj",), layers=1)).encode()
    twice = raw[:-1] + b", " + raw[1:]
    assert failed(check_safetensors_header(twice, 8 + len(twice) + 4096, BASE)) == {"safetensors_header"}


def test_ranks_must_be_those_of_the_config():
    assert failed(check(tensors(rank=16), CONFIG)) == {"rank"}
    assert check(tensors(rank=16), CONFIG | {"rank_pattern": {"q_proj": 16, "down.*": 16}}).ok
    assert failed(check(tensors(rank=16), CONFIG | {"rank_pattern": {"q_proj": 16}})) == {"rank"}
    assert failed(check(tensors(rank=257), None)) == {"tensor_shapes"}


def test_layers_to_transform_must_be_those_of_the_file():
    assert check(tensors(layers=2), CONFIG | {"layers_to_transform": [0, 1]}).ok
    assert failed(check(tensors(layers=2), CONFIG | {"layers_to_transform": [1]})) == {"target_modules"}
    # PEFT leaves out layers that have none of the modules, and those that the model does not have.
    report = check(tensors(layers=2), CONFIG | {"layers_to_transform": [0, 1, 5]})
    assert report.ok and any("layer 5" in one.message for one in report.findings if one.level == "warn")
    assert failed(check(tensors(layers=3), CONFIG | {"layers_to_transform": 0})) == {"target_modules"}


@pytest.mark.parametrize("claim", [5 * 1024**3, 2**60, 2**64 - 1, MAX_HEADER_BYTES + 1, 10_000, 0])
def test_a_false_header_length_is_refused(tmp_path: Path, claim: int):
    good = packed(tensors())
    write(tmp_path, CONFIG, struct.pack("<Q", claim) + good[8:4000])
    assert failed(check_adapter_folder(tmp_path, BASE)) == {"safetensors_header"}


@pytest.mark.parametrize(
    "filling",
    [b'{"a":{},', b"[", b"0,", b'"a":"",', b"{", b'{"__metadata__":{"k":"'],
    ids=["entries", "depth", "numbers", "strings", "braces", "one-string"],
)
def test_a_header_at_the_limit_costs_bounded_memory(tmp_path: Path, filling: bytes):
    """Sixteen megabytes that would blow up when parsed; the text itself is read, decoded and little more."""
    header = (filling * (MAX_HEADER_BYTES // len(filling) + 1))[:MAX_HEADER_BYTES]
    write(tmp_path, CONFIG, struct.pack("<Q", len(header)) + header)
    tracemalloc.start()
    report = check_adapter_folder(tmp_path, BASE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert failed(report) == {"safetensors_header"}
    assert peak < 5 * MAX_HEADER_BYTES


def test_missing_and_empty_files_are_named(tmp_path: Path):
    assert failed(check_adapter_folder(tmp_path / "none", BASE)) == {"files"}
    write(tmp_path, CONFIG, b"")
    report = check_adapter_folder(tmp_path, BASE)
    assert failed(report) == {"files"}
    assert WEIGHTS_NAME in report.findings[-1].message
    (tmp_path / CONFIG_NAME).unlink()
    (tmp_path / CONFIG_NAME).mkdir()
    assert failed(check_adapter_folder(tmp_path, BASE)) == {"files"}


def test_texts_from_the_file_are_fit_to_be_stored():
    config = CONFIG | {"target_modules": ["\ud800\x00\n evil"], "base_model_name_or_path": "\x00\ud800"}
    for finding in check_config(json.dumps(config).encode(), BASE).findings:
        assert finding.message.isprintable()
        finding.message.encode()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=examples(200), deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*CONFIG, "rank_pattern", "alpha_pattern", "layers_to_transform"]), json_values
    )
)
def test_any_values_in_the_config_give_a_report(change: dict[str, Any]):
    config = CONFIG | change
    report = check_config(json.dumps(config).encode(), BASE)
    failed(report)
    failed(check(tensors(), config))


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_give_a_report(content: bytes):
    assert failed(check_safetensors_header(content, 8 + len(content), BASE, CONFIG)) == {"safetensors_header"}
    with TemporaryDirectory() as folder:
        assert not check_adapter_folder(write(Path(folder), content, content), BASE).ok


@settings(max_examples=examples(150), deadline=None)
@given(st.integers(0, 2**32))
def test_flipped_bytes_in_a_good_file_give_a_report(seed: int):
    dice = random.Random(seed)
    with TemporaryDirectory() as folder:
        content = bytearray(packed(tensors(("q_proj",), layers=1)))
        header_end = 8 + struct.unpack_from("<Q", content)[0]
        for _ in range(dice.randint(1, 4)):
            content[dice.randrange(header_end)] = dice.randrange(256)
        failed(check_adapter_folder(write(Path(folder), CONFIG, bytes(content)), BASE))
