"""Spans of a request, where traces are asked for: their names, what they hang on, and what they may never say."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kindling_collector import Collector
from kindling_fake_engine import FakeEngine
from kindling_gateway import GatewayServer, chat, eventually, gateway_env
from kindling_platform.gateway.app import create_app
from kindling_platform.gateway.traces import Traces

TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")
SECRET = "a prompt that nobody else may read"


class Spans:
    """Everything that the traced gateway has ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()

    def of(self, request_id: str, *, least: int = 1) -> dict[str, list[ReadableSpan]]:
        """The spans of a request by name, as soon as the whole of it has ended."""

        def found() -> list[ReadableSpan]:
            every = self.exporter.get_finished_spans()
            roots = [span for span in every if span.attributes.get("kindling.request_id") == request_id]
            if not roots:
                return []
            trace = roots[0].context.trace_id
            return [span for span in every if span.context.trace_id == trace]

        spans = eventually(lambda: (got := found()) and len(got) >= least and got)
        named: dict[str, list[ReadableSpan]] = {}
        for span in spans:
            named.setdefault(span.name, []).append(span)
        return named


@pytest.fixture(scope="module")
def spans() -> Spans:
    return Spans()


@pytest.fixture(scope="module")
def traced(shared: Any, spans: Spans) -> Iterator[GatewayServer]:
    env = gateway_env(database_url=shared.world.url, home=shared.world.home)
    traces = Traces(SimpleSpanProcessor(spans.exporter))
    with GatewayServer(create_app(env, grace_s=1.0, traces=traces)) as running:
        yield running


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_a_span_with_its_parts_inside(traced: GatewayServer, scene, spans: Spans, stream: bool):
    with traced.client(scene.key) as client:
        reply = client.post("/v1/chat/completions", json=chat(stream=stream))
    named = spans.of(reply.headers["x-request-id"], least=4)
    (root,) = named.pop("request")
    assert set(named) == {"admission", "upstream", "settle"}
    for (span,) in named.values():
        assert span.parent.span_id == root.context.span_id
        assert root.start_time <= span.start_time <= span.end_time <= root.end_time
    assert root.parent is None
    said = root.attributes
    assert said["http.response.status_code"] == 200
    assert (said["http.route"], said["gen_ai.request.model"]) == ("chat", "kindling/words")
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (7, 8)
    assert [event.name for event in named["upstream"][0].events] == ["first byte"]


def test_the_callers_trace_goes_on_here_and_in_the_engine(traced: GatewayServer, scene, spans: Spans):
    theirs = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    headers = {"traceparent": f"00-{theirs[0]}-{theirs[1]}-01", "tracestate": "vendor=1"}
    with traced.client(scene.key) as client:
        reply = client.post("/v1/chat/completions", json=chat(), headers=headers)
    named = spans.of(reply.headers["x-request-id"], least=4)
    (root,), (upstream,) = named["request"], named["upstream"]
    assert f"{root.context.trace_id:032x}" == theirs[0]
    assert f"{root.parent.span_id:016x}" == theirs[1]
    sent = scene.engine.received[-1].headers
    assert TRACEPARENT.fullmatch(sent["traceparent"]).groups() == (
        theirs[0],
        f"{upstream.context.span_id:016x}",
    )
    assert sent["tracestate"] == "vendor=1"


def test_a_caller_that_does_not_sample_is_heeded(traced: GatewayServer, scene, spans: Spans):
    before = len(spans.exporter.get_finished_spans())
    headers = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b7-00"}
    with traced.client(scene.key) as client:
        assert client.post("/v1/chat/completions", json=chat(), headers=headers).status_code == 200
    assert len(spans.exporter.get_finished_spans()) == before
    assert scene.engine.received[-1].headers["traceparent"].endswith("-00")


def test_a_traceparent_that_is_none_begins_a_new_trace(traced: GatewayServer, scene, spans: Spans):
    with traced.client(scene.key) as client:
        reply = client.post("/v1/chat/completions", json=chat(), headers={"traceparent": "00-nonsense"})
    assert spans.of(reply.headers["x-request-id"])["request"][0].parent is None


def test_a_second_try_is_a_second_upstream(traced: GatewayServer, scene, spans: Spans):
    with FakeEngine() as engine:
        engine.behaviour.cut_before_first = 1
        model = scene.new_model(engine.url)
        with traced.client(scene.key) as client:
            reply = client.post("/v1/chat/completions", json=chat(model))
        assert reply.status_code == 200
        parents = [one.headers["traceparent"] for one in engine.received]
    named = spans.of(reply.headers["x-request-id"], least=5)
    assert len(named["upstream"]) == 2
    assert parents[0] != parents[1]


def test_refusals_and_failures_are_named(traced: GatewayServer, scene, spans: Spans):
    poor = scene.world.org("poor", usd=0)
    with traced.client(scene.world.key(poor)) as client:
        refused = client.post("/v1/chat/completions", json=chat())
    assert refused.status_code == 402
    named = spans.of(refused.headers["x-request-id"], least=2)
    assert named["admission"][0].attributes["error.type"] == "insufficient_credit"
    assert named["request"][0].attributes["error.type"] == "insufficient_credit"
    assert "upstream" not in named
    assert named["request"][0].status.is_ok or named["request"][0].status.is_unset
    scene.engine.behaviour.cut_before_first = 9
    with traced.client(scene.key) as client:
        failed = client.post("/v1/chat/completions", json=chat())
    assert failed.status_code == 502
    assert not spans.of(failed.headers["x-request-id"], least=4)["request"][0].status.is_ok


def test_no_span_says_a_prompt_an_answer_or_a_key(traced: GatewayServer, scene, spans: Spans):
    body = chat(messages=[{"role": "user", "content": SECRET}])
    with traced.client(scene.key) as client:
        reply = client.post("/v1/chat/completions", json=body, headers={"x-session-affinity": "hush"})
    assert "w1" in reply.text
    told = "".join(
        span.to_json()
        for group in spans.of(reply.headers["x-request-id"], least=4).values()
        for span in group
    )
    for word in (SECRET, "w1 ", scene.key, scene.key[-12:], "hush", "key_"):
        assert word not in told


def test_without_a_collector_there_is_no_trace(server: GatewayServer, scene):
    with server.client(scene.key) as client:
        assert client.post("/v1/chat/completions", json=chat()).status_code == 200
    assert "traceparent" not in scene.engine.received[-1].headers


def test_a_collector_gets_them_over_http(shared: Any, scene, tmp_path: Path):
    with Collector() as collector:
        env = gateway_env(database_url=shared.world.url, home=tmp_path, otlp_endpoint=collector.url)
        with GatewayServer(create_app(env, grace_s=1.0)) as running, running.client(scene.key) as client:
            assert client.post("/v1/chat/completions", json=chat()).status_code == 200
        # Leaving has shut the gateway down, and that sends what is left.
        assert sorted(collector.names()) == ["admission", "request", "settle", "upstream"]
        assert collector.services() == {"kindling-gateway"}
