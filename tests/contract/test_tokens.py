"""Tokenize and detokenize against transformers' own tokenizer of the served model, through a gateway and its engine."""

import json
from typing import Any

import httpx
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from kindling_doorway import Doorway
from kindling_engine.starter import SPARK_PATH

pytestmark = pytest.mark.stack
TEXTS = [
    "Hello!",
    "",
    " two  spaces\n\tand a tab",
    "naïve 漢字 🦊 e\u0301",
    "<|im_start|>user\nHi<|im_end|>\n",
    "a\0b",
]
ANSWERED = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello 🦊"},
    {"role": "user", "content": "And?"},
]
TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"x": {}}}},
}


@pytest.fixture(scope="module")
def theirs() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(SPARK_PATH)


def ask(doorway: Doorway, path: str, **fields: Any) -> dict[str, Any]:
    with doorway.client() as http:
        reply = http.post(f"/v1/{path}", json={"model": doorway.model} | fields)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_has_the_tokens_that_transformers_gives_it(
    doorway: Doorway, theirs: PreTrainedTokenizerFast, text: str
):
    for special in (True, False):
        wanted = theirs(text, add_special_tokens=special)["input_ids"]
        told = ask(doorway, "tokenize", prompt=text, add_special_tokens=special, return_token_strs=True)
        assert (told["tokens"], told["count"]) == (wanted, len(wanted))
        assert told["token_strs"] == theirs.convert_ids_to_tokens(wanted)
        back = ask(doorway, "detokenize", tokens=wanted)
        assert back == {"prompt": theirs.decode(wanted, clean_up_tokenization_spaces=False)}
    plain = ask(doorway, "tokenize", prompt=text)
    assert plain["tokens"] == theirs(text)["input_ids"]
    assert plain["token_strs"] is None and plain["max_model_len"] >= 1024


@pytest.mark.parametrize("fields", [{}, {"tools": [TOOL]}, {"add_generation_prompt": False}])
def test_a_conversation_has_those_of_its_template(
    doorway: Doorway, theirs: PreTrainedTokenizerFast, fields: dict[str, Any]
):
    begins = fields.get("add_generation_prompt", True)
    text = theirs.apply_chat_template(
        ANSWERED, tools=fields.get("tools"), add_generation_prompt=begins, tokenize=False
    )
    wanted = theirs(text, add_special_tokens=False)["input_ids"]
    told = ask(doorway, "tokenize", messages=ANSWERED, **fields)
    assert told["tokens"] == wanted
    if begins:
        with doorway.client() as http:
            body = {"model": doorway.model, "messages": ANSWERED, "max_tokens": 1} | fields
            usage = http.post("/v1/chat/completions", json=body).json()["usage"]
        assert usage["prompt_tokens"] == told["count"]
    around = ask(doorway, "tokenize", messages=ANSWERED, add_special_tokens=True, **fields)
    assert around["tokens"] == theirs(text, add_special_tokens=True)["input_ids"]


def test_control_tokens_that_a_user_writes_are_letters_unless_asked_otherwise(
    doorway: Doorway, theirs: PreTrainedTokenizerFast
):
    said = [{"role": "user", "content": "<|im_end|>"}]
    end = theirs.convert_tokens_to_ids("<|im_end|>")
    safe = ask(doorway, "tokenize", messages=said)["tokens"]
    unsafe = ask(doorway, "tokenize", messages=said, safe_tokenization=False)["tokens"]
    assert (safe.count(end), unsafe.count(end)) == (1, 2)


def test_it_is_free_and_longer_than_a_context(doorway: Doorway):
    usage = f"{doorway.engine.url}/usage?after=0"
    before = httpx.get(usage).content
    told = ask(doorway, "tokenize", prompt="word " * 2000)
    assert told["count"] > told["max_model_len"]
    assert ask(doorway, "detokenize", tokens=told["tokens"])["prompt"] == "word " * 2000
    assert httpx.get(usage).content == before


def test_a_model_that_makes_vectors_has_tokens_and_no_conversations(doorway: Doorway):
    told = ask(doorway, "tokenize", model=doorway.encoder, prompt="w5 w6", return_token_strs=True)
    assert [one for one in told["token_strs"] if one.startswith("w")] == ["w5", "w6"]
    bare = ask(doorway, "tokenize", model=doorway.encoder, prompt="w5 w6", add_special_tokens=False)
    assert 2 == bare["count"] < told["count"]
    assert "w5 w6" in ask(doorway, "detokenize", model=doorway.encoder, tokens=told["tokens"])["prompt"]
    with doorway.client() as http:
        reply = http.post("/v1/tokenize", json={"model": doorway.encoder, "messages": ANSWERED})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "messages"), reply.text


def test_what_has_no_effect_is_named(doorway: Doorway):
    body = {"model": doorway.model, "messages": ANSWERED, "chat_template_kwargs": {"nobody_reads": 1}}
    with doorway.client() as http:
        reply = http.post("/v1/tokenize", json=body)
    assert (reply.status_code, reply.headers["x-kindling-ignored"]) == (
        200,
        "chat_template_kwargs.nobody_reads",
    )


@pytest.mark.parametrize(
    ("path", "fields", "code", "param"),
    [
        ("tokenize", {}, "missing_field", "prompt"),
        ("tokenize", {"prompt": ["a"]}, "invalid_value", "prompt"),
        ("tokenize", {"prompt": "\ud800"}, "invalid_json", None),
        ("tokenize", {"prompt": "a", "messages": ANSWERED}, "invalid_value", "prompt"),
        ("tokenize", {"prompt": "a", "add_special_tokens": "yes"}, "invalid_value", "add_special_tokens"),
        ("tokenize", {"prompt": "a", "add_generation_prompt": True}, "unsupported_field", "add_generation_prompt"),
        ("tokenize", {"messages": []}, "invalid_value", "messages"),
        ("tokenize", {"messages": ANSWERED, "chat_template": "x"}, "unsupported_field", "chat_template"),
        ("tokenize", {"messages": ANSWERED, "chat_template_kwargs": {"add_generation_prompt": 0}},
         "invalid_value", "chat_template_kwargs.add_generation_prompt"),
        ("tokenize", {"prompt": "x" * 4_000_000}, "context_length_exceeded", "prompt"),
        ("detokenize", {}, "missing_field", "tokens"),
        ("detokenize", {"tokens": "5"}, "invalid_value", "tokens"),
        ("detokenize", {"tokens": [[5]]}, "invalid_value", "tokens"),
        ("detokenize", {"tokens": [-1]}, "invalid_value", "tokens"),
        ("detokenize", {"tokens": [True]}, "invalid_value", "tokens"),
        ("detokenize", {"tokens": [1.0]}, "invalid_value", "tokens"),
        ("detokenize", {"tokens": [10**30]}, "invalid_value", "tokens"),
        ("detokenize", {"tokens": [1_000_000]}, "invalid_value", "tokens"),
        ("detokenize", {"tokens": [5] * 200_000}, "invalid_value", "tokens"),
        ("detokenize", {"tokens": [5], "prompt": "a"}, "unsupported_field", "prompt"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(
    doorway: Doorway, path: str, fields: dict[str, Any], code: str, param: str | None
):
    with doorway.client() as http:
        reply = http.post(f"/v1/{path}", content=json.dumps({"model": doorway.model} | fields))
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, code, param), reply.text


def test_keys_and_models_are_looked_at_as_for_completions(doorway: Doorway):
    body = {"model": doorway.model, "prompt": "Hi"}
    reader = doorway.world.key(doorway.customer, scopes=["read"])
    with httpx.Client(base_url=doorway.url, timeout=60) as http:
        answers = [
            http.post("/v1/tokenize", json=sent, headers={"authorization": f"Bearer {key}"})
            for key, sent in (
                ("kd_none", body),
                (reader, body),
                (doorway.key, body | {"model": "kindling/none"}),
                (doorway.world.key(doorway.customer, models=["kindling/other"]), body),
                (doorway.other_key, body),
            )
        ]
    codes = [(one.status_code, one.json().get("error", {}).get("code")) for one in answers]
    assert codes == [
        (401, "invalid_api_key"), (403, "scope_missing"), (404, "model_not_found"), (403, "model_not_allowed"),
        (200, None),
    ]  # fmt: skip
