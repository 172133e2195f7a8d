"""Models from folders and from the hub."""

import json
import shutil
import struct
from math import prod
from pathlib import Path

import pytest

from kindling_billing.selectors import price_current, price_list
from kindling_engine.starter import SPARK_PATH
from kindling_people import Customer, make_model, make_price
from kindling_platform.catalog.folder import model_folder_read
from kindling_platform.catalog.models import Model
from kindling_platform.catalog.selectors import model_get, model_list
from kindling_platform.catalog.services import hub_download, model_import, model_price_publish
from kindling_platform.common.errors import KindlingError

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SPARK_PATH, tmp_path / "model"))


def change_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(config))


def refusal(work) -> str:
    with pytest.raises(KindlingError) as refused:
        work()
    return refused.value.code


def test_a_folder_says_what_it_holds():
    facts = model_folder_read(SPARK_PATH)
    config = json.loads((SPARK_PATH / "config.json").read_text())
    assert facts.architecture == "LlamaForCausalLM"
    assert facts.context_length == config["max_position_embeddings"]
    assert facts.vocab_size == config["vocab_size"]
    assert 900_000 < facts.parameters < 1_200_000
    assert facts.licence == "apache-2.0"
    assert facts.shapes["num_layers"] == config["num_hidden_layers"]
    assert facts.shapes["kv_heads"] == config["num_key_value_heads"]


def test_the_same_files_have_the_same_revision_and_others_another(folder: Path):
    assert model_folder_read(folder).revision == model_folder_read(SPARK_PATH).revision
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert model_folder_read(folder).revision != model_folder_read(SPARK_PATH).revision


def in_config(folder: Path, template: object) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))


TEMPLATES = {
    "nowhere": (lambda folder: None, "completions"),
    "a file": (lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"), "chat"),
    "an empty file": (lambda folder: (folder / "chat_template.jinja").write_text(""), "completions"),
    "the config": (lambda folder: in_config(folder, "{{ messages }}"), "chat"),
    "a list": (lambda folder: in_config(folder, [{"name": "default", "template": "{{ messages }}"}]), "chat"),
    "only for tools": (
        lambda folder: in_config(folder, [{"name": "tool_use", "template": "{{ a }}"}]),
        "completions",
    ),
}


@pytest.mark.parametrize("where", TEMPLATES)
def test_a_model_without_a_chat_template_completes_text(folder: Path, operator: Customer, where: str):
    (folder / "chat_template.jinja").unlink()
    in_config(folder, None)
    put, surface = TEMPLATES[where]
    put(folder)
    model = model_import(org=operator.org, name="base", source_path=folder, actor=operator.actor)
    assert (model.surface, model.chat_ready) == (surface, surface == "chat")
    assert model.lora_ready


def test_a_tokenizer_config_that_cannot_be_read_is_refused(folder: Path):
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(KindlingError, match=r"tokenizer_config\.json") as refused:
        model_folder_read(folder)
    assert refused.value.code == "model_folder_invalid"


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def list_config(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def no_sizes(folder: Path) -> None:
    change_config(folder, hidden_size=None)


def absurd_sizes(folder: Path) -> None:
    change_config(folder, num_attention_heads=0, head_dim=None)


def negative_sizes(folder: Path) -> None:
    change_config(folder, vocab_size=-5)


def huge_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")


SPOILERS = [
    *(no_weights, no_tokenizer, no_config, broken_config, list_config),
    *(no_sizes, absurd_sizes, negative_sizes, huge_header),
]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_a_folder_that_is_no_model_is_refused(folder: Path, spoil):
    spoil(folder)
    assert refusal(lambda: model_folder_read(folder)) == "model_folder_invalid"


def test_importing_twice_changes_nothing_and_moving_follows(operator: Customer, folder: Path):
    first = make_model(operator)
    assert make_model(operator).id == first.id
    moved = model_import(
        org=operator.org, name="spark", source_path=folder, is_public=True, actor=operator.actor
    )
    assert (moved.id, moved.source_path) == (first.id, str(folder))
    assert Model.objects.count() == 1


def test_another_shape_under_a_name_with_adapters_is_refused(operator: Customer, folder: Path):
    from kindling_platform.adapters.models import Adapter

    model = make_model(operator)
    Adapter.objects.create(organisation=operator.org, base=model, name="tuned")
    change_config(folder, vocab_size=4096)

    def again() -> None:
        model_import(org=operator.org, name="spark", source_path=folder, actor=operator.actor)

    assert refusal(again) == "model_changed"
    change_config(folder, vocab_size=model.vocab_size, num_key_value_heads=1)
    assert refusal(again) == "model_changed"
    with pytest.raises(KindlingError, match=r"\(kindling/tuned\).*another shape.*delete the adapters"):
        again()


def swap_tokens(folder: Path) -> None:
    """Another tokenizer of the same size."""
    fields = json.loads((folder / "tokenizer.json").read_text())
    vocab = fields["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    (folder / "tokenizer.json").write_text(json.dumps(fields))


def test_another_tokenizer_under_a_name_with_adapters_is_refused(operator: Customer, folder: Path):
    from kindling_platform.adapters.models import Adapter

    model = make_model(operator)
    Adapter.objects.create(organisation=operator.org, base=model, name="tuned")
    swap_tokens(folder)

    def again() -> None:
        model_import(org=operator.org, name="spark", source_path=folder, actor=operator.actor)

    with pytest.raises(KindlingError, match="another tokenizer"):
        again()
    # One that was not known when the model came is no other one.
    Model.objects.update(vocabulary_hash="")
    again()
    assert Model.objects.get().vocabulary_hash


@pytest.mark.parametrize("state", ["deleted", "rejected"])
def test_adapters_that_answer_no_more_keep_no_name(operator: Customer, folder: Path, state: str):
    from kindling_platform.adapters.models import Adapter

    model = make_model(operator)
    Adapter.objects.create(organisation=operator.org, base=model, name="tuned", state=state)
    change_config(folder, vocab_size=4096)
    again = model_import(org=operator.org, name="spark", source_path=folder, actor=operator.actor)
    assert (again.id, again.vocab_size) == (model.id, 4096)


def test_sizes_that_nobody_kept_are_added_under_adapters(operator: Customer, folder: Path):
    from kindling_platform.adapters.models import Adapter

    model = make_model(operator)
    Adapter.objects.create(organisation=operator.org, base=model, name="tuned")
    change_config(folder, num_local_experts=4)
    again = model_import(
        org=operator.org, name="spark", source_path=folder, is_public=True, actor=operator.actor
    )
    added = {"experts": 4, "expert_size": model.shapes["intermediate_size"]}
    assert (again.id, again.shapes) == (model.id, model.shapes | added)


def test_a_name_of_an_adapter_is_taken(operator: Customer):
    from kindling_platform.adapters.models import Adapter

    Adapter.objects.create(organisation=operator.org, base=make_model(operator), name="tuned")
    assert refusal(lambda: make_model(operator, "tuned")) == "name_taken"


def test_who_sees_what(operator: Customer, ada: Customer, bob: Customer):
    public = make_model(operator)
    private = make_model(ada, "private", is_public=False)
    assert [model.id for model in model_list(org=bob.org)] == [public.id]
    assert {model.id for model in model_list(org=ada.org)} == {public.id, private.id}
    assert model_get(org=ada.org, ref="private").id == private.id
    assert model_get(org=ada.org, ref=private.ref).id == private.id
    assert model_get(org=ada.org, ref=private.id).id == private.id
    for ref in (private.ref, private.id, "private", "", "a/b/c"):
        assert refusal(lambda ref=ref: model_get(org=bob.org, ref=ref)) == "model_not_found"


def test_a_price_is_added_and_never_changed(operator: Customer):
    model = make_model(operator)
    before = price_current(sku=model.id)
    make_price(model, operator.actor)
    after = price_current(sku=model.id)
    assert before and after and before.id != after.id
    assert [price.id for price in price_list(sku=model.id)] == [after.id, before.id]


def test_a_price_below_nothing_is_refused(operator: Customer):
    model = make_model(operator)

    def publish() -> None:
        model_price_publish(
            model=model, input_picousd=-1, cached_input_picousd=0, output_picousd=0, actor=operator.actor
        )

    assert refusal(publish) == "amount_invalid"


@pytest.mark.parametrize("repo_id", ["", "../../etc", "a/b/c", "https://x/y", "a b", ".hidden/x"])
def test_what_is_no_id_of_a_model_is_refused_before_any_call(repo_id: str):
    assert refusal(lambda: hub_download(repo_id=repo_id)) == "hub_not_found"


def test_a_hub_that_cannot_be_reached_is_said_so(monkeypatch: pytest.MonkeyPatch):
    # A port of this machine where nobody listens: no network is needed for there to be none.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert refusal(lambda: hub_download(repo_id="someone/something")) == "hub_offline"


def test_older_names_of_the_sizes_are_understood(folder: Path):
    config = {
        "architectures": ["GPT2LMHeadModel"], "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 512,
        "n_inner": None, "vocab_size": 320,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    facts = model_folder_read(folder)
    assert (facts.context_length, facts.vocab_size) == (512, 320)
    assert facts.shapes == {
        "hidden_size": 64, "intermediate_size": 256, "num_layers": 3, "heads": 4, "kv_heads": 4, "head_dim": 16,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sizes", "context_length", "heads"),
    [
        ({"n_embed": 64, "n_layer": 3, "num_attention_heads": 4}, 8192, 4),
        ({"embedding_dim": 64, "num_blocks": 3, "num_heads": 2}, 8192, 2),
        ({"hidden_size": 64, "num_hidden_layers": 3, "context_length": 1024}, 1024, 1),
    ],
)
def test_other_families_have_other_names(
    folder: Path, sizes: dict[str, int], context_length: int, heads: int
):
    config = {"architectures": ["BloomForCausalLM"], "vocab_size": 320} | sizes
    (folder / "config.json").write_text(json.dumps(config))
    facts = model_folder_read(folder)
    assert facts.context_length == context_length
    assert [facts.shapes[name] for name in ("hidden_size", "num_layers", "heads")] == [64, 3, heads]


def test_a_model_that_keeps_a_state_needs_neither_heads_nor_a_last_position(folder: Path):
    config = {"architectures": ["MambaForCausalLM"], "hidden_size": 64, "n_layer": 3, "vocab_size": 320}
    (folder / "config.json").write_text(json.dumps(config))
    facts = model_folder_read(folder)
    assert (facts.context_length, facts.shapes["heads"], facts.shapes["num_layers"]) == (8192, 1, 3)
    listed = {name: one for name, one in config.items() if name != "n_layer"} | {
        "layers_block_type": ["mamba"] * 4
    }
    (folder / "config.json").write_text(json.dumps(listed))
    assert model_folder_read(folder).shapes["num_layers"] == 4
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaForCausalLM"]}))
    assert refusal(lambda: model_folder_read(folder)) == "model_folder_invalid"


def test_attention_in_chunks_is_served_for_the_first(folder: Path):
    config = {
        "architectures": ["Llama4ForCausalLM"], "hidden_size": 64, "num_hidden_layers": 3, "vocab_size": 320,
        "max_position_embeddings": 131_072, "attention_chunk_size": 8192,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    assert model_folder_read(folder).context_length == 8192


def test_a_mixture_has_the_sizes_of_its_experts_as_well(folder: Path):
    config = json.loads((folder / "config.json").read_text())
    plain = model_folder_read(folder).shapes
    for name, count in (("num_experts", 6), ("num_local_experts", 8), ("num_local_experts", 0)):
        mixture = config | {name: count, "moe_intermediate_size": 40}
        (folder / "config.json").write_text(json.dumps(mixture))
        shapes = plain | ({"experts": count, "expert_size": 40} if count else {})
        assert model_folder_read(folder).shapes == shapes


def test_packed_experts_are_counted_as_what_they_stand_for(folder: Path):
    change_config(folder, architectures=["GptOssForCausalLM"], num_local_experts=4)
    shapes = {"a.gate_up_proj_blocks": [4, 6, 2, 16], "a.gate_up_proj_scales": [4, 6, 2], "a.bytes": [5]}
    header, at = {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "U8", "shape": shape, "data_offsets": [at, at + prod(shape)]}
        at += prod(shape)
    written = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(written)) + written + bytes(at))
    facts = model_folder_read(folder)
    assert facts.parameters == 4 * 6 * 64 + 5
    assert facts.shapes["experts"] == 4 and facts.shapes["expert_size"] == facts.shapes["intermediate_size"]


def test_sizes_of_the_text_part_are_found(folder: Path):
    config = json.loads((folder / "config.json").read_text())
    nested = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": config}
    (folder / "config.json").write_text(json.dumps(nested))
    assert model_folder_read(folder).shapes == model_folder_read(SPARK_PATH).shapes
