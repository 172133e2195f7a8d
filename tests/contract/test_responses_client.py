"""The official `openai` client's Responses against the gateway and a real engine: tools, formats, turns, helpers."""

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from kindling_doorway import Doorway

pytestmark = pytest.mark.stack
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
PARIS = "What is the weather in Paris?"
STORY = "Tell me a story about a fox."


class Label(BaseModel):
    intent: Literal["refund", "billing", "other"]
    urgency: Literal["low", "normal", "high"]


@pytest.fixture(scope="module")
def client(doorway: Doorway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{doorway.url}/v1", api_key=doorway.key, max_retries=0)


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    asked = {"model": "kindling/spark", "input": STORY, "temperature": 0, "max_output_tokens": 96}
    return client.responses.create(**(asked | fields))


def test_a_response_says_what_a_chat_says(client: openai.OpenAI):
    answer = ask(client, max_output_tokens=30)
    chat = client.chat.completions.create(
        model="kindling/spark", messages=[{"role": "user", "content": STORY}], temperature=0, max_tokens=30
    )
    assert answer.output_text == chat.choices[0].message.content
    assert chat.usage
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (
        chat.usage.prompt_tokens,
        chat.usage.completion_tokens,
    )


def test_a_function_is_called_and_its_result_goes_on_behind_it(client: openai.OpenAI):
    called = ask(client, input=PARIS, tools=[WEATHER])
    (call,) = called.output
    assert (call.type, call.name, json.loads(call.arguments)) == (
        "function_call",
        "get_weather",
        {"city": "Paris"},
    )
    result = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": '{"temperature": 21, "sky": "sunny"}',
    }
    kept = ask(client, input=[result], tools=[WEATHER], previous_response_id=called.id)
    sent = ask(client, input=[{"role": "user", "content": PARIS}, *called.output, result], tools=[WEATHER])
    assert kept.output_text == sent.output_text
    assert "21" in kept.output_text


def test_a_stream_says_the_same_as_a_whole_answer(client: openai.OpenAI):
    for fields in ({"input": STORY, "max_output_tokens": 30}, {"input": PARIS, "tools": [WEATHER]}):
        whole = ask(client, **fields)
        events = list(ask(client, **fields, stream=True))
        last = events[-1].response
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert last.output_text == whole.output_text
        assert [item.type for item in last.output] == [item.type for item in whole.output]
        assert last.usage.output_tokens == whole.usage.output_tokens
        told = "".join(event.delta for event in events if event.type.endswith(".delta"))
        assert told == (whole.output_text or whole.output[0].arguments)


def test_parse_gives_a_pydantic_object(client: openai.OpenAI):
    answer = client.responses.parse(
        model="kindling/spark", input="I want my money back", text_format=Label, temperature=0
    )
    assert isinstance(answer.output_parsed, Label)
    assert answer.status == "completed"


def test_the_streaming_helper_tells_its_events(client: openai.OpenAI):
    with client.responses.stream(
        model="kindling/spark", input="I was billed twice", text_format=Label, temperature=0
    ) as stream:
        events = list(stream)
        final = stream.get_final_response()
    told = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert told == final.output_text
    assert events[-1].type == "response.completed"
    assert isinstance(final.output_parsed, Label)


def test_logprobs_stand_with_the_text(client: openai.OpenAI):
    answer = ask(client, max_output_tokens=6, top_logprobs=2, include=["message.output_text.logprobs"])
    (part,) = answer.output[0].content
    assert "".join(one.token for one in part.logprobs) == part.text
    assert all(len(one.top_logprobs) == 2 for one in part.logprobs)


def test_a_long_conversation_is_shortened_when_it_may_be(client: openai.OpenAI):
    turns = [{"role": "user", "content": "word " * 1500}, {"role": "assistant", "content": "Yes."}] * 3
    asked = {"input": [*turns, {"role": "user", "content": "Hello!"}], "max_output_tokens": 8}
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **asked)
    assert refused.value.code == "context_length_exceeded"
    assert ask(client, **asked, truncation="auto").output_text
