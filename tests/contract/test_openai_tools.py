"""The official `openai` client's tools, parse() and streaming helpers against the engine with its starter model."""

import json
import uuid
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel

from kindling_engine.starter import SPARK_NAME
from kindling_engine_process import EngineProcess

pytestmark = pytest.mark.stack

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather for a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ORDER = {
    "type": "function",
    "function": {
        "name": "get_order_status",
        "description": "Look up the status of an order.",
        "parameters": {
            "type": "object",
            "properties": {
                "order_id": {"type": "integer", "minimum": 1, "maximum": 9999},
                "urgent": {"type": "boolean"},
            },
            "required": ["order_id", "urgent"],
            "additionalProperties": False,
        },
    },
}
PARIS = [{"role": "user", "content": "What is the weather in Paris?"}]


class GetWeather(BaseModel):
    """Get the current weather for a city."""

    city: str


class Label(BaseModel):
    intent: Literal["refund", "billing", "other"]
    urgency: Literal["low", "normal", "high"]
    follow_up: bool


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    def add_id(request: httpx.Request) -> None:
        request.headers["x-kindling-request"] = str(uuid.uuid4())

    with EngineProcess(tmp_path_factory.mktemp("engine")) as engine:
        http = httpx.Client(event_hooks={"request": [add_id]}, timeout=60)
        with openai.OpenAI(
            base_url=f"{engine.url}/v1", api_key="none", max_retries=0, http_client=http
        ) as made:
            yield made


def create(client: openai.OpenAI, **fields: Any) -> Any:
    asked = {"model": SPARK_NAME, "messages": PARIS, "tools": [WEATHER], "temperature": 0, "max_tokens": 96}
    return client.chat.completions.create(**(asked | fields))


def joined(chunks: list[Any]) -> tuple[str, list[dict[str, str]], str]:
    """Content, calls and finish reason of a stream, put together by index."""
    content, calls, finish = "", {}, ""
    for chunk in chunks:
        for choice in chunk.choices:
            content += choice.delta.content or ""
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or []:
                known = calls.setdefault(call.index, {"name": "", "arguments": "", "id": ""})
                known["id"] += call.id or ""
                known["name"] += call.function.name or ""
                known["arguments"] += call.function.arguments or ""
    return content, [calls[index] for index in sorted(calls)], finish


def test_a_tool_is_called_and_its_result_is_told(client: openai.OpenAI):
    reply = create(client)
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 21, "sky": "sunny"}'}
    answer = create(client, messages=[*PARIS, choice.message, result])
    assert answer.choices[0].finish_reason == "stop"
    assert "Paris" in answer.choices[0].message.content
    assert "21" in answer.choices[0].message.content


def test_a_stream_of_a_call_says_the_same(client: openai.OpenAI):
    whole = create(client).choices[0].message.tool_calls[0].function
    chunks = list(create(client, stream=True))
    content, (call,), finish = joined(chunks)
    assert (content, finish) == ("", "tool_calls")
    assert (call["name"], call["arguments"]) == (whole.name, whole.arguments)
    assert call["id"].startswith("call_")
    assert chunks[0].choices[0].delta.role == "assistant"
    # How many pieces there are is the machine's affair: tokens that are ready together leave together.
    told = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    assert [bool(call.id) for call in told] == [True] + [False] * (len(told) - 1)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_may_be_demanded(client: openai.OpenAI, stream: bool):
    """The model has never been asked for this tool with this schema: only a grammar makes it answer so."""
    messages = [{"role": "user", "content": "Tell me a story about a fox."}]
    for choice in ("required", {"type": "function", "function": {"name": "get_order_status"}}):
        tools = [ORDER] if choice == "required" else [WEATHER, ORDER]
        reply = create(
            client,
            messages=messages,
            tools=tools,
            tool_choice=choice,
            stream=stream,
            parallel_tool_calls=False,
        )
        if stream:
            content, (call,), finish = joined(list(reply))
        else:
            content, finish = reply.choices[0].message.content or "", reply.choices[0].finish_reason
            function = reply.choices[0].message.tool_calls[0].function
            call = {"name": function.name, "arguments": function.arguments}
        assert (content, finish, call["name"]) == ("", "tool_calls", "get_order_status")
        arguments = json.loads(call["arguments"])
        assert set(arguments) == {"order_id", "urgent"}
        assert 1 <= arguments["order_id"] <= 9999
        assert type(arguments["urgent"]) is bool


def test_sampled_calls_always_parse(client: openai.OpenAI):
    reply = create(client, tools=[WEATHER, ORDER], tool_choice="required", temperature=2.0, n=4, seed=3,
                   parallel_tool_calls=False, max_tokens=400)  # fmt: skip
    for choice in reply.choices:
        (call,) = choice.message.tool_calls
        if choice.finish_reason == "tool_calls":
            arguments = json.loads(call.function.arguments)
            assert {"get_weather": "city", "get_order_status": "order_id"}[call.function.name] in arguments
        else:
            assert choice.finish_reason == "length"  # a string may go on for ever at this temperature


def test_no_tool_is_called_when_none_may_be(client: openai.OpenAI):
    reply = create(client, tool_choice="none", max_tokens=32)
    assert reply.choices[0].message.tool_calls is None
    assert reply.choices[0].message.content


def test_the_older_functions_get_the_older_answer(client: openai.OpenAI):
    fields = {"tools": openai.NOT_GIVEN, "functions": [WEATHER["function"]]}
    reply = create(client, **fields)
    message = reply.choices[0].message
    assert reply.choices[0].finish_reason == "function_call"
    assert message.tool_calls is None
    assert message.function_call.name == "get_weather"
    assert json.loads(message.function_call.arguments) == {"city": "Paris"}
    history = [
        *PARIS,
        message,
        {"role": "function", "name": "get_weather", "content": '{"temperature": 9, "sky": "rainy"}'},
    ]
    answer = create(client, **fields, messages=history)
    assert "9" in answer.choices[0].message.content
    name, arguments, finish = "", "", ""
    for chunk in create(client, **fields, function_call={"name": "get_weather"}, stream=True):
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            if call := choice.delta.function_call:
                name, arguments = name + (call.name or ""), arguments + (call.arguments or "")
    assert (name, finish) == ("get_weather", "function_call")
    assert "city" in json.loads(arguments)


def test_parse_gives_a_pydantic_object(client: openai.OpenAI):
    reply = client.chat.completions.parse(
        model=SPARK_NAME,
        messages=[{"role": "user", "content": "I want my money back"}],
        response_format=Label,
        temperature=0,
        max_tokens=96,
    )
    parsed = reply.choices[0].message.parsed
    assert isinstance(parsed, Label)
    assert reply.choices[0].finish_reason == "stop"


def test_parse_gives_the_arguments_of_a_strict_tool(client: openai.OpenAI):
    tool = openai.pydantic_function_tool(GetWeather, name="get_weather")
    reply = client.chat.completions.parse(
        model=SPARK_NAME, messages=PARIS, tools=[tool], temperature=0, max_tokens=96
    )
    (call,) = reply.choices[0].message.tool_calls
    assert call.function.parsed_arguments == GetWeather(city="Paris")


def test_the_streaming_helper_tells_its_events(client: openai.OpenAI):
    tool = openai.pydantic_function_tool(GetWeather, name="get_weather")
    with client.chat.completions.stream(
        model=SPARK_NAME, messages=PARIS, tools=[tool], temperature=0, max_tokens=96
    ) as stream:
        events = [event for event in stream]  # noqa: C416 - the helper ends with its loop
        final = stream.get_final_completion()
    said = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
    (done,) = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert "".join(event.arguments_delta for event in said) == done.arguments
    assert (done.name, done.parsed_arguments) == ("get_weather", GetWeather(city="Paris"))
    assert final.choices[0].message.tool_calls[0].function.parsed_arguments == GetWeather(city="Paris")
    with client.chat.completions.stream(
        model=SPARK_NAME,
        messages=[{"role": "user", "content": "I was billed twice"}],
        response_format=Label,
        temperature=0,
        max_tokens=96,
    ) as stream:
        kinds = [event.type for event in stream]
        parsed = stream.get_final_completion().choices[0].message.parsed
    assert "content.delta" in kinds
    assert kinds.count("content.done") == 1
    assert isinstance(parsed, Label)


def test_choices_of_one_request_have_their_own_calls(client: openai.OpenAI):
    reply = create(client, n=3, temperature=0.3, seed=1, logprobs=True, top_logprobs=2)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    ids = [call.id for choice in reply.choices for call in choice.message.tool_calls or []]
    assert len(ids) == len(set(ids)) >= 2
    for choice in reply.choices:
        content = choice.message.content or ""
        assert "".join(entry.token for entry in choice.logprobs.content) == content


def test_what_a_schema_asks_beyond_what_is_kept_is_refused_by_name(client: openai.OpenAI):
    bad = json.loads(json.dumps(WEATHER))
    bad["function"]["parameters"]["properties"]["city"] = {"type": "array", "uniqueItems": True}
    loose = client.chat.completions.with_raw_response.create(
        model=SPARK_NAME, messages=PARIS, max_tokens=20, tools=[bad], tool_choice="required"
    )
    assert loose.headers["x-kindling-ignored"] == "tools.function.parameters.uniqueItems"
    bad["function"]["strict"] = True
    with pytest.raises(openai.BadRequestError) as refused:
        create(client, tools=[bad], tool_choice="required")
    assert refused.value.code == "unsupported_schema"
    assert "tools[0].function.parameters" in str(refused.value)
    assert "uniqueItems" in str(refused.value)
