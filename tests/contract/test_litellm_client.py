"""LiteLLM's client side against the gateway and a real engine; skipped where LiteLLM is not installed."""

import json
from typing import Any

import pytest

from kindling_doorway import Doorway

litellm = pytest.importorskip("litellm")
pytestmark = pytest.mark.stack
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather for a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]
PARIS = [{"role": "user", "content": "What is the weather in Paris?"}]


@pytest.fixture(params=["openai", "anthropic"])
def provider(request: pytest.FixtureRequest, doorway: Doorway) -> dict[str, Any]:
    """What LiteLLM is told to reach the gateway by either shape."""
    base = doorway.url + ("/v1" if request.param == "openai" else "")
    return {"model": f"{request.param}/kindling/spark", "api_base": base, "api_key": doorway.key}


def ask(provider: dict[str, Any], **fields: Any) -> Any:
    return litellm.completion(**provider, **({"max_tokens": 96, "num_retries": 0} | fields))


def test_an_answer_and_its_stream(provider: dict[str, Any]):
    whole = ask(provider, messages=STORY, max_tokens=24, temperature=0)
    chunks = list(ask(provider, messages=STORY, max_tokens=24, temperature=0, stream=True))
    assert whole.choices[0].message.content
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert whole.usage.completion_tokens > 0


def test_a_tool_is_called(provider: dict[str, Any]):
    reply = ask(provider, messages=PARIS, tools=[WEATHER], temperature=0)
    (call,) = reply.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
    assert reply.choices[0].finish_reason == "tool_calls"


def test_an_error_has_its_class(provider: dict[str, Any]):
    with pytest.raises(litellm.BadRequestError):
        ask(provider, messages=[{"role": "user", "content": "word " * 9000}])
    with pytest.raises(litellm.AuthenticationError):
        ask(provider | {"api_key": "nonsense"}, messages=STORY)
