"""The official `anthropic` client against the gateway and a real engine: tools, streams, counts, formats, stops."""

import json
from typing import Any

import anthropic
import pytest

from kindling_doorway import Doorway

pytestmark = pytest.mark.stack
WEATHER = {
    "name": "get_weather",
    "description": "Get the current weather for a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PARIS = [{"role": "user", "content": "What is the weather in Paris?"}]
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]


@pytest.fixture(scope="module")
def client(doorway: Doorway) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=doorway.url, api_key=doorway.key, max_retries=0)


def ask(client: anthropic.Anthropic, *, temperature: float = 0, **fields: Any) -> anthropic.types.Message:
    """The client of today has no name for the temperature, and passes it on."""
    asked = {"model": "kindling/spark", "max_tokens": 96, "messages": STORY} | fields
    return client.messages.create(**asked, extra_body={"temperature": temperature})


def test_a_tool_is_called_and_its_result_is_told(client: anthropic.Anthropic):
    called = ask(client, messages=PARIS, tools=[WEATHER])
    assert called.stop_reason == "tool_use"
    (call,) = [block for block in called.content if block.type == "tool_use"]
    assert (call.name, call.input) == ("get_weather", {"city": "Paris"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": '{"temperature": 21, "sky": "sunny"}'}
    history = [
        *PARIS,
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": [result]},
    ]
    answer = ask(client, messages=history, tools=[WEATHER])
    assert answer.stop_reason == "end_turn"
    assert "Paris" in answer.content[0].text
    assert "21" in answer.content[0].text


def test_the_clients_own_loop_of_tools_runs_without_a_thread(client: anthropic.Anthropic):
    """It asks for a thread that the server keeps, and sends everything itself where it is told that there is none."""

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Get the current weather for a city.

        Args:
            city: The city.
        """
        return json.dumps({"temperature": 21, "sky": "sunny", "city": city})

    runner = client.beta.messages.tool_runner(
        model="kindling/spark",
        max_tokens=96,
        messages=PARIS,
        tools=[get_weather],
        extra_body={"temperature": 0},
    )
    answers = list(runner)
    assert [one.stop_reason for one in answers] == ["tool_use", "end_turn"]
    assert "Paris" in answers[-1].content[0].text


def test_a_thread_is_refused_in_the_words_that_clients_know(client: anthropic.Anthropic):
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(
            model="kindling/spark", max_tokens=4, messages=STORY, extra_body={"thread": {"type": "create"}}
        )
    details = refused.value.body["error"]["details"]
    assert details == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


def test_a_stream_says_the_same_as_a_whole_answer(client: anthropic.Anthropic):
    for fields in ({"messages": STORY, "max_tokens": 40}, {"messages": PARIS, "tools": [WEATHER]}):
        whole = ask(client, **fields)
        asked = {"model": "kindling/spark", "max_tokens": 96} | fields
        with client.messages.stream(**asked, extra_body={"temperature": 0}) as stream:
            events = list(stream)
            final = stream.get_final_message()
        assert [said_of(events, index) for index in range(len(final.content))] == [
            json.dumps(one.input) if one.type == "tool_use" else one.text for one in whole.content
        ]
        told = [one.to_dict() | {"id": "", "caller": None} for one in final.content]
        assert told == [one.to_dict() | {"id": "", "caller": None} for one in whole.content]
        assert (final.stop_reason, final.usage.output_tokens) == (
            whole.stop_reason,
            whole.usage.output_tokens,
        )


def said_of(events: list[Any], index: int) -> str:
    """What the pieces of a block say together; how many there are depends on how fast they are read."""
    block = [event for event in events if getattr(event, "index", None) == index]
    raw = [event for event in block if event.type.startswith("content_block_")]
    assert [raw[0].type, raw[-1].type] == ["content_block_start", "content_block_stop"]
    deltas = [event.delta for event in raw[1:-1]]
    return "".join(d.partial_json if d.type == "input_json_delta" else d.text for d in deltas)


def prompt_tokens(usage: anthropic.types.Usage) -> int:
    return usage.input_tokens + (usage.cache_read_input_tokens or 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": STORY},
        {"messages": STORY, "system": "You are kind."},
        {"messages": PARIS, "tools": [WEATHER]},
        {
            "messages": [
                *STORY,
                {"role": "assistant", "content": "Once."},
                {"role": "user", "content": "More."},
            ]
        },
    ],
)
def test_counted_tokens_are_those_of_the_answer(client: anthropic.Anthropic, fields: dict[str, Any]):
    counted = client.messages.count_tokens(model="kindling/spark", **fields)
    assert counted.input_tokens == prompt_tokens(ask(client, **fields, max_tokens=1).usage)


def test_a_stream_tells_the_prompts_tokens_first(client: anthropic.Anthropic):
    asked = {"model": "kindling/spark", "max_tokens": 4, "messages": STORY}
    with client.messages.stream(**asked) as stream:
        (start,) = [event for event in stream if event.type == "message_start"]
        final = stream.get_final_message()
    assert prompt_tokens(start.message.usage) == prompt_tokens(final.usage) > 4


def test_a_prompt_that_is_known_is_read_from_the_cache(client: anthropic.Anthropic):
    messages = [{"role": "user", "content": "A long beginning that is the same both times. " * 8}]
    first = ask(client, messages=messages, max_tokens=1).usage
    second = ask(client, messages=messages, max_tokens=1).usage
    assert second.cache_read_input_tokens > 0
    assert prompt_tokens(first) == prompt_tokens(second)


def test_a_stop_sequence_is_named(client: anthropic.Anthropic):
    full = ask(client, max_tokens=40).content[0].text
    stop = full.split()[4]
    cut = ask(client, max_tokens=40, stop_sequences=[stop])
    assert (cut.stop_reason, cut.stop_sequence) == ("stop_sequence", stop)
    assert cut.content[0].text == full[: full.index(stop)]


def test_a_tool_may_be_demanded_or_forbidden(client: anthropic.Anthropic):
    forced = ask(client, tools=[WEATHER], tool_choice={"type": "tool", "name": "get_weather"}, max_tokens=200)
    assert [block.type for block in forced.content] == ["tool_use"]
    assert "city" in forced.content[0].input
    free = ask(client, messages=PARIS, tools=[WEATHER], tool_choice={"type": "none"}, max_tokens=32)
    assert [block.type for block in free.content] == ["text"]


def test_an_answer_keeps_a_schema(client: anthropic.Anthropic):
    schema = {
        "type": "object",
        "properties": {"intent": {"enum": ["refund", "other"]}, "urgent": {"type": "boolean"}},
        "required": ["intent", "urgent"],
        "additionalProperties": False,
    }
    answer = ask(client, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert set(json.loads(answer.content[0].text)) == {"intent", "urgent"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"temperature": 9}, "temperature"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, "tokens"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "file:///x"}}]}]},
         "messages[0].content[0].type"),
    ],
)  # fmt: skip
def test_what_the_model_cannot_is_refused_by_name(
    client: anthropic.Anthropic, fields: dict[str, Any], says: str
):
    with pytest.raises(anthropic.BadRequestError) as refused:
        ask(client, **fields)
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    assert says in refused.value.body["error"]["message"]
