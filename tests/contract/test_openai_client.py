"""The official `openai` client against a running stack: shapes, streams, errors, answers equal to PEFT's."""

import asyncio
from collections.abc import Iterator

import openai
import pytest
import torch
from pydantic import BaseModel

from kindling_engine.starter import ADAPTER_PATHS
from kindling_reference import Reference
from kindling_stack import Stack
from kindling_tenant import Tenant

pytestmark = pytest.mark.stack
BASE = "kindling/spark"


class Greeting(BaseModel):
    kind: bool


@pytest.fixture(scope="module")
def tenant(stack: Stack) -> Iterator[Tenant]:
    someone = stack.sign_up("contract")
    for name in ("intent", "voice"):
        report = someone.upload(name, ADAPTER_PATHS[name])
        assert report["state"] == "ready", report
    yield someone
    someone.http.close()


@pytest.fixture(scope="module")
def client(stack: Stack, tenant: Tenant) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{stack.url}/v1", api_key=tenant.key, max_retries=0)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


def log_softmax(reference: Reference, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode(), reference.model.disable_adapter():
        return reference.model(torch.tensor([ids])).logits[0].log_softmax(-1)


def test_models_lists_the_base_and_the_tenants_own_adapters(client: openai.OpenAI, tenant: Tenant):
    ids = {model.id for model in client.models.list()}
    assert {BASE, f"{tenant.slug}/intent", f"{tenant.slug}/voice"} <= ids
    assert client.models.retrieve(BASE).id == BASE
    assert client.models.retrieve(f"{tenant.slug}/intent").owned_by == tenant.slug


def test_chat_counts_its_tokens(client: openai.OpenAI):
    reply = client.chat.completions.create(
        model=BASE, messages=[{"role": "user", "content": "Hello!"}], max_tokens=16, temperature=0
    )
    assert reply.model == BASE
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].message.content
    assert reply.choices[0].finish_reason in {"stop", "length"}
    assert reply.usage
    assert 0 < reply.usage.completion_tokens <= 16
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_a_stream_says_the_same_as_a_single_reply(client: openai.OpenAI):
    ask = {"model": BASE, "messages": [{"role": "user", "content": "Tell me a story about a fox."}]}
    whole = client.chat.completions.create(**ask, max_tokens=40, temperature=0)
    chunks = list(client.chat.completions.create(**ask, max_tokens=40, temperature=0, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert all(chunk.usage is None for chunk in chunks)


def test_a_prediction_that_comes_true_changes_neither_the_answer_nor_its_bill(client: openai.OpenAI):
    ask = {
        "model": BASE,
        "messages": [{"role": "user", "content": "Tell me a story about a fox."}],
        "max_tokens": 60,
        "temperature": 0,
        "extra_body": {"include_cost": True},
    }
    plain = client.chat.completions.create(**ask)
    prediction = {"type": "content", "content": plain.choices[0].message.content or ""}
    raw = client.chat.completions.with_raw_response.create(**ask, prediction=prediction)
    again = raw.parse()
    assert "x-kindling-ignored" not in raw.headers
    assert again.choices[0].message.content == plain.choices[0].message.content
    assert again.usage and plain.usage
    assert again.usage.completion_tokens == plain.usage.completion_tokens
    details = again.usage.completion_tokens_details
    # Written anew, its end may be cut into other tokens.
    assert details and plain.usage.completion_tokens / 2 < details.accepted_prediction_tokens
    assert details.accepted_prediction_tokens <= plain.usage.completion_tokens
    assert details.rejected_prediction_tokens == 0


def test_a_stream_reports_usage_only_when_asked(client: openai.OpenAI):
    chunks = list(
        client.chat.completions.create(
            model=BASE,
            messages=[{"role": "user", "content": "Hello!"}],
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens <= 8


def test_completions_continue_a_prompt(client: openai.OpenAI):
    reply = client.completions.create(model=BASE, prompt="Once upon a time", max_tokens=12, temperature=0)
    assert reply.choices[0].text
    assert reply.usage
    assert reply.usage.completion_tokens == 12 or reply.choices[0].finish_reason == "stop"


def test_a_seed_fixes_the_answer(client: openai.OpenAI):
    def once() -> str | None:
        reply = client.chat.completions.create(
            model=BASE,
            messages=[{"role": "user", "content": "Tell me a story."}],
            max_tokens=24,
            temperature=1,
            top_p=0.95,
            seed=7,
        )
        return reply.choices[0].message.content

    assert once() == once()


def test_several_answers_at_once_and_in_one_stream(client: openai.OpenAI):
    ask = {"model": BASE, "messages": [{"role": "user", "content": "Tell me a story."}], "temperature": 1}
    whole = client.chat.completions.create(**ask, n=3, seed=7, max_tokens=16)
    single = client.chat.completions.create(**ask, seed=7, max_tokens=16)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert whole.choices[0].message.content == single.choices[0].message.content
    assert len({choice.message.content for choice in whole.choices}) > 1
    assert whole.usage and single.usage
    assert whole.usage.prompt_tokens == single.usage.prompt_tokens
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(**ask, n=3, seed=7, max_tokens=16, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]


@pytest.mark.parametrize("stream", [False, True])
def test_several_long_answers_outlast_what_they_were_granted_at_first(client: openai.OpenAI, stream: bool):
    ask = {"model": BASE, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 280, "n": 3}
    more = {"extra_body": {"ignore_eos": True}}
    if stream:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        usage = list(client.chat.completions.create(**ask, **options, **more))[-1].usage
    else:
        usage = client.chat.completions.create(**ask, **more).usage
    assert usage and usage.completion_tokens == 3 * 280


def test_chat_logprobs_equal_the_references(client: openai.OpenAI, reference: Reference):
    messages = [{"role": "user", "content": "Tell me a story about a fox."}]
    reply = client.chat.completions.create(
        model=BASE, messages=messages, max_tokens=8, temperature=0, logprobs=True, top_logprobs=3
    )
    prompt = reference.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    content = reply.choices[0].logprobs.content
    assert b"".join(bytes(one.bytes) for one in content).decode() == reply.choices[0].message.content
    made = reference.tokenizer(reply.choices[0].message.content, add_special_tokens=False)["input_ids"]
    expected = log_softmax(reference, prompt["input_ids"] + made)
    for place, one in enumerate(content):
        best = expected[len(prompt["input_ids"]) + place - 1].topk(3).values.tolist()
        assert [top.logprob for top in one.top_logprobs] == pytest.approx(best, abs=2e-3)
        assert one.logprob == pytest.approx(best[0], abs=2e-3)


def test_several_prompts_in_one_completion(client: openai.OpenAI):
    prompts = ["Once upon a time", "The sea is", "Once upon a time"]
    reply = client.completions.create(model=BASE, prompt=prompts, max_tokens=8, temperature=0)
    singles = [
        client.completions.create(model=BASE, prompt=prompt, max_tokens=8, temperature=0)
        for prompt in prompts
    ]
    assert [choice.text for choice in reply.choices] == [single.choices[0].text for single in singles]
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert reply.usage
    assert reply.usage.prompt_tokens == sum(
        single.usage.prompt_tokens for single in singles[:2] if single.usage
    )


def test_a_text_is_scored_by_its_echo(client: openai.OpenAI, reference: Reference):
    text = "Once upon a time a fox said hello."
    reply = client.completions.create(model=BASE, prompt=text, max_tokens=0, echo=True, logprobs=1)
    (choice,) = reply.choices
    assert choice.text == text
    ids = reference.tokenizer(text)["input_ids"]
    expected = log_softmax(reference, ids)
    chosen = [float(expected[place, token]) for place, token in enumerate(ids[1:])]
    assert choice.logprobs
    assert choice.logprobs.token_logprobs[0] is None
    assert choice.logprobs.token_logprobs[1:] == pytest.approx(chosen, abs=2e-3)
    assert "".join(choice.logprobs.tokens) == text
    assert reply.usage
    assert reply.usage.completion_tokens == 0


def test_the_best_of_several_is_returned(client: openai.OpenAI):
    ask = {"model": BASE, "prompt": "Once upon a time", "temperature": 1.2, "seed": 3, "max_tokens": 8}
    every = client.completions.create(**ask, n=4, logprobs=0)
    best = client.completions.create(**ask, best_of=4)
    means = [sum(one.logprobs.token_logprobs) / len(one.logprobs.token_logprobs) for one in every.choices]
    assert best.choices[0].text in {
        one.text for one, mean in zip(every.choices, means, strict=True) if mean >= max(means) - 0.2
    }
    assert best.usage and every.usage
    assert best.usage.completion_tokens == every.usage.completion_tokens


def test_a_stop_string_ends_the_text_before_it(client: openai.OpenAI):
    ask = {"model": BASE, "messages": [{"role": "user", "content": "Tell me a story about a fox."}]}
    full = (
        client.chat.completions.create(**ask, max_tokens=40, temperature=0).choices[0].message.content or ""
    )
    stop = full.split()[4]
    cut = client.chat.completions.create(**ask, max_tokens=40, temperature=0, stop=[stop])
    assert cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].message.content == full[: full.index(stop)]


def test_the_organisations_own_endpoint(stack: Stack, tenant: Tenant):
    own = openai.OpenAI(base_url=f"{stack.url}/{tenant.slug}/v1", api_key=tenant.key, max_retries=0)
    reply = own.chat.completions.create(
        model="intent", messages=[{"role": "user", "content": "I want my money back"}], max_tokens=24
    )
    assert reply.usage
    foreign = openai.OpenAI(base_url=f"{stack.url}/kindling/v1", api_key=tenant.key, max_retries=0)
    with pytest.raises(openai.NotFoundError):
        foreign.models.list()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"temperature": 9}, "invalid_value"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "invalid_value"),
        ({"messages": []}, "invalid_value"),
        ({"n": 17}, "invalid_value"),
        ({"extra_body": {"no_such_field": 1}}, "unsupported_field"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, "context_length_exceeded"),
    ],
)
def test_a_bad_request_names_what_is_wrong(client: openai.OpenAI, change: dict, code: str):
    ask = {"model": BASE, "messages": [{"role": "user", "content": "Hello!"}]} | change
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**ask)
    assert refused.value.code == code
    assert refused.value.body["doc_url"] == f"{client.base_url.copy_with(path='/errors/')}#{code}"


def test_what_the_client_parsed_can_be_sent_back(client: openai.OpenAI):
    """As its helpers leave it: with the parsed object, and null for all that was not there."""
    ask = {"role": "user", "content": "Hello!"}
    reply = client.chat.completions.parse(
        model=BASE, messages=[ask], response_format=Greeting, max_tokens=64, temperature=0
    )
    message = reply.choices[0].message
    assert isinstance(message.parsed, Greeting)
    raw = client.chat.completions.with_raw_response.create(
        model=BASE, messages=[ask, message.model_dump(), ask], max_tokens=4
    )
    assert raw.headers["x-kindling-ignored"] == "messages.parsed"
    assert raw.parse().choices[0].message.content is not None


def test_a_call_that_was_cut_off_can_be_sent_back(client: openai.OpenAI):
    call = {"id": "call00001", "type": "function", "function": {"name": "look", "arguments": '{"at": "a'}}
    reply = client.chat.completions.create(
        model=BASE,
        messages=[
            {"role": "user", "content": "Hello!"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call00001", "content": "not JSON"},
        ],
        max_tokens=4,
    )
    assert reply.choices[0].message.content is not None


def test_an_unknown_key_is_401(stack: Stack):
    for key in ("nonsense", "kd_live_" + "0" * 33):
        stranger = openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0)
        with pytest.raises(openai.AuthenticationError) as refused:
            stranger.models.list()
        assert refused.value.code == "invalid_api_key"


def test_an_unknown_or_foreign_model_is_404(stack: Stack, client: openai.OpenAI, tenant: Tenant):
    other = stack.sign_up("stranger")
    stranger = openai.OpenAI(base_url=f"{stack.url}/v1", api_key=other.key, max_retries=0)
    for caller, model in ((client, "kindling/none"), (stranger, f"{tenant.slug}/intent")):
        with pytest.raises(openai.NotFoundError) as refused:
            caller.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello!"}])
        assert refused.value.code == "model_not_found"


async def test_base_and_two_adapters_in_one_batch_equal_peft(
    stack: Stack, tenant: Tenant, reference: Reference
):
    """Nine answers made at the same time; each agrees with transformers and PEFT wherever the reference's
    two best tokens are further apart than the tolerance of fp32."""
    prompts = ["I want a refund for my order", "Tell me a story about a fox.", "Hello!"]
    cases = [(name, prompt) for prompt in prompts for name in ("", "intent", "voice")]
    client = openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=tenant.key, max_retries=0)

    async def ask(adapter: str, prompt: str) -> str:
        reply = await client.chat.completions.create(
            model=f"{tenant.slug}/{adapter}" if adapter else BASE,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=24,
            temperature=0,
        )
        return reply.choices[0].message.content or ""

    answers = await asyncio.gather(*(ask(*case) for case in cases))
    for (adapter, prompt), answer in zip(cases, answers, strict=True):
        expected, certain = reference.greedy(adapter, prompt, max_tokens=24)
        assert answer[: len(certain)] == certain, (adapter, prompt, answer, expected)
