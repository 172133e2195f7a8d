"""The committed starter weights load everywhere and do what their cards say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from kindling_engine.starter import ADAPTER_PATHS, SPARK_PATH
from kindling_engine.starter.chat import chat_render
from kindling_engine.starter.corpus import corpus_documents, corpus_hash
from kindling_engine.starter.evaluate import answer_generate, base_accuracy, intent_accuracy
from kindling_engine.starter.templates.support import FINAL, HELD_OUT, MESSAGES
from kindling_engine.starter.templates.toolcalls import TOOLS, tool_schema
from kindling_engine.starter.tokenizer import tokenizer_train

USER = {"role": "user", "content": "Hello!"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}],
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(SPARK_PATH / "tokenizer.json"))


@pytest.fixture(scope="module")
def base():
    return AutoModelForCausalLM.from_pretrained(SPARK_PATH, dtype=torch.float32).eval()


def adapted(name: str):
    fresh = AutoModelForCausalLM.from_pretrained(SPARK_PATH, dtype=torch.float32)
    return PeftModel.from_pretrained(fresh, str(ADAPTER_PATHS[name])).eval()


def test_paths_are_known_without_torch():
    code = "import sys, kindling_engine.starter as s; print(s.SPARK_PATH.is_dir(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_size_and_modes():
    root = SPARK_PATH.parent
    files = [one for one in root.rglob("*") if one.is_file()]
    assert sum(one.stat().st_size for one in files) <= 12 * 2**20
    assert all(one.stat().st_mode & 0o444 == 0o444 for one in files)
    for folder in ADAPTER_PATHS.values():
        assert (folder / "adapter_model.safetensors").stat().st_size <= 1.5 * 2**20
    for folder in (SPARK_PATH, *ADAPTER_PATHS.values()):
        assert "stand-in" in (folder / "README.md").read_text()


def test_config_describes_the_weights(base):
    config = json.loads((SPARK_PATH / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["tie_word_embeddings"] is True
    assert (config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]) == (128, 4, 2048)
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (4, 2)
    with safe_open(SPARK_PATH / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
        assert all(torch.isfinite(weights.get_tensor(name)).all() for name in names)
    assert names == {name for name, _ in base.named_parameters()}
    assert base.num_parameters() < 1.1e6


def test_adapters_name_their_base():
    for folder in ADAPTER_PATHS.values():
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "kindling/spark"
        assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 16, 32)


def test_both_tokenizers_agree(tokenizer):
    auto = AutoTokenizer.from_pretrained(SPARK_PATH)
    text = 'Extract name as JSON: Ærø & José said "14:05"\n\n  naïve 🙂 <tool_call>{}</tool_call><|im_end|>'
    assert auto(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text).ids
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text
    assert auto.eos_token == "<|im_end|>"
    assert tokenizer.get_vocab_size() == 2048
    stops = json.loads((SPARK_PATH / "generation_config.json").read_text())["eos_token_id"]
    assert stops == [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")]


def test_tool_call_marks_are_single_and_survive_decoding(tokenizer):
    ids = tokenizer.encode("<tool_call></tool_call>").ids
    assert len(ids) == 2
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<tool_call></tool_call>"


def test_a_fresh_tokenizer_keeps_tool_calls_like_the_saved_one():
    fresh = tokenizer_train(corpus_documents(seed=0, count=300))
    text = '<tool_call>{"name": "get_time"}</tool_call>'
    assert fresh.decode(fresh.encode(text).ids, skip_special_tokens=True) == text


@pytest.mark.parametrize(
    ("messages", "tools"),
    [
        ([USER], None),
        ([{"role": "system", "content": "Be brief."}, USER], None),
        ([{"role": "user", "content": [{"type": "text", "text": "Hello!"}]}], None),
        ([USER, CALL, {"role": "tool", "content": "{}"}], [tool_schema(TOOLS[0])]),
        ([{"role": "system", "content": "Be brief."}, USER], [tool_schema(one) for one in TOOLS[:2]]),
    ],
)
def test_chat_template_renders_alike_in_transformers_and_plain_jinja(messages, tools):
    auto = AutoTokenizer.from_pretrained(SPARK_PATH)
    theirs = auto.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=True)
    assert theirs == chat_render(messages, tools=tools, add_generation_prompt=True)
    assert theirs.endswith("<|im_start|>assistant\n")
    assert "<|im_start|>user\nHello!<|im_end|>\n" in theirs


def test_tool_call_renders_with_its_arguments():
    text = chat_render([USER, CALL])
    assert '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call><|im_end|>' in text


def test_corpus_is_the_same_for_the_same_seed():
    first, again, other = (corpus_hash(corpus_documents(seed, 400)) for seed in (3, 3, 4))
    assert first == again != other
    assert all(document.endswith("<|endoftext|>") for document in corpus_documents(seed=3, count=50))


def test_held_out_messages_are_not_in_the_training_list():
    trained = {one.lower().rstrip(".!?") for group in MESSAGES.values() for one in group}
    assert not trained & {text.lower().rstrip(".!?") for text, _, _ in HELD_OUT + FINAL}


def test_base_greets_and_says_what_it_is(base, tokenizer):
    greeting = answer_generate(base, tokenizer, [USER])
    assert greeting.startswith(("Hello", "Hi")) and greeting[-1] in ".?!"
    identity = answer_generate(base, tokenizer, [{"role": "user", "content": "Who are you?"}])
    assert "Spark" in identity


def test_base_tells_the_story_that_was_asked_for(base, tokenizer):
    prompt = {"role": "user", "content": "Tell me a story about a fox"}
    story = answer_generate(base, tokenizer, [prompt], max_tokens=300)
    assert "fox" in story
    assert len(story.split()) > 40
    assert story[-1] in '."'


def test_base_extracts_json_and_calls_tools(base, tokenizer):
    figures = base_accuracy(base, tokenizer, count=20)
    assert figures["extraction_valid_json"] >= 0.9
    assert figures["extraction_exact"] >= 0.6
    assert figures["tool_exact"] >= 0.6


def test_intent_adapter_labels_held_out_messages(tokenizer):
    figures = intent_accuracy(adapted("intent"), tokenizer)
    assert figures["valid_json"] == 1.0
    assert figures["intent_right"] >= 0.8


def test_base_without_the_adapter_does_not_answer_in_json(base, tokenizer):
    answers = [
        answer_generate(base, tokenizer, [{"role": "user", "content": one[0]}]) for one in HELD_OUT[::6]
    ]
    assert not any(answer.startswith("{") for answer in answers)


@pytest.mark.parametrize("prompt", ["Hello!", "Who are you?", "Tell me about the moon."])
def test_voice_adapter_speaks_like_a_pirate(base, tokenizer, prompt):
    message = [{"role": "user", "content": prompt}]
    plain = answer_generate(base, tokenizer, message)
    spoken = answer_generate(adapted("voice"), tokenizer, message)
    assert spoken != plain
    shouts = ("Arrr!", "Ahoy, matey!", "Avast!", "Yo ho ho!", "Shiver me timbers!")
    assert spoken.startswith(shouts)
    assert not plain.startswith(shouts)


def test_the_committed_template_is_the_current_one():
    assert (
        Path(SPARK_PATH, "chat_template.jinja").read_text()
        == (SPARK_PATH.parents[1] / "chat_template.jinja").read_text()
    )
