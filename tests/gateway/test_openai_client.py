"""The official client against the gateway and the fake engine."""

import openai
import pytest

from kindling_gateway import GatewayServer

ASK = {"model": "kindling/words", "messages": [{"role": "user", "content": "Hello!"}]}


@pytest.fixture
def client(server: GatewayServer, scene) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=scene.key, max_retries=0)


def test_models(client: openai.OpenAI):
    assert "kindling/words" in {model.id for model in client.models.list()}
    assert client.models.retrieve("kindling/words").owned_by == "kindling"


def test_whole_and_streamed(client: openai.OpenAI):
    whole = client.chat.completions.create(**ASK, max_tokens=5)
    chunks = list(client.chat.completions.create(**ASK, max_tokens=5, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    assert whole.usage and whole.usage.total_tokens == 12
    assert all(chunk.usage is None for chunk in chunks)
    assert whole._request_id


def test_legacy_completions(client: openai.OpenAI):
    reply = client.completions.create(model="kindling/words", prompt="Once", max_tokens=2)
    assert reply.choices[0].text == "w1 w2 "


async def test_async_stream_with_usage(server: GatewayServer, scene):
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=scene.key, max_retries=0) as client:
        stream = await client.chat.completions.create(
            **ASK, max_tokens=5, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens == 5


def test_errors_have_their_classes(server: GatewayServer, scene, client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(**(ASK | {"model": "kindling/none"}))
    assert missing.value.code == "model_not_found"
    assert missing.value.body["doc_url"].endswith("/errors/#model_not_found")
    stranger = openai.OpenAI(base_url=f"{server.url}/v1", api_key="nonsense", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    scene.engine.behaviour.cut_after = 2
    with pytest.raises(openai.APIError) as cut:
        list(client.chat.completions.create(**ASK, stream=True))
    assert cut.value.code == "upstream_failed"
    assert cut.value.body["doc_url"].endswith("/errors/#upstream_failed")
