"""LangChain's OpenAI models against the gateway and a real engine; skipped where LangChain is not installed."""

import json
from typing import Literal

import pytest
from pydantic import BaseModel

from kindling_doorway import Doorway

langchain_openai = pytest.importorskip("langchain_openai")
pytestmark = pytest.mark.stack


class Label(BaseModel):
    """What a customer wants."""

    intent: Literal["refund", "billing", "other"]
    urgent: bool


def get_weather(city: str) -> str:
    """Get the current weather for a city."""
    return json.dumps({"temperature": 21, "sky": "sunny", "city": city})


def model_of(doorway: Doorway, **fields):
    asked = {"model": "kindling/spark", "temperature": 0, "max_tokens": 96, "max_retries": 0} | fields
    return langchain_openai.ChatOpenAI(base_url=f"{doorway.url}/v1", api_key=doorway.key, **asked)


@pytest.mark.parametrize("responses", [False, True])
def test_an_answer_and_its_stream(doorway: Doorway, responses: bool):
    model = model_of(doorway, use_responses_api=responses, max_tokens=24, stream_usage=True)
    whole = model.invoke("Tell me a story about a fox.")
    pieces = list(model.stream("Tell me a story about a fox."))
    joined = pieces[0]
    for piece in pieces[1:]:
        joined = joined + piece
    assert whole.text == joined.text
    assert len(pieces) > 1
    assert whole.usage_metadata["output_tokens"] == joined.usage_metadata["output_tokens"] > 0


@pytest.mark.parametrize("responses", [False, True])
def test_a_tool_is_called_and_its_result_is_told(doorway: Doorway, responses: bool):
    from langchain_core.messages import HumanMessage, ToolMessage

    model = model_of(doorway, use_responses_api=responses).bind_tools([get_weather])
    question = HumanMessage("What is the weather in Paris?")
    called = model.invoke([question])
    (call,) = called.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    result = ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"])
    assert "21" in model.invoke([question, called, result]).text


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(doorway: Doorway, method: str):
    model = model_of(doorway).with_structured_output(Label, method=method)
    assert isinstance(model.invoke("I want my money back"), Label)


def test_embeddings(doorway: Doorway):
    made = langchain_openai.OpenAIEmbeddings(
        base_url=f"{doorway.url}/v1",
        api_key=doorway.key,
        model=doorway.encoder,
        check_embedding_ctx_length=False,
    )
    assert [len(one) for one in made.embed_documents(["w5 w6", "w7"])] == [64, 64]
