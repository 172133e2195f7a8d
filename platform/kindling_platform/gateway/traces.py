"""Spans of requests for OpenTelemetry: request, admission, upstream, settle. Nothing is imported unless asked for.

A span says what the access log says: never a prompt, an answer or a key.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from kindling_platform.gateway.access_log import CLIENT_GONE
from kindling_platform.gateway.routes import route_find

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

SERVICE = "kindling-gateway"
EXPORT_TIMEOUT_S = 5
# Headers by which a caller's trace goes on here, and ours in the engine.
CARRIED = ("traceparent", "tracestate")
# What a request's span takes over of its facts, under the names that others give them.
NAMED = (
    ("model", "gen_ai.request.model"),
    ("prompt_tokens", "gen_ai.usage.input_tokens"),
    ("completion_tokens", "gen_ai.usage.output_tokens"),
    ("cached_tokens", "kindling.cached_tokens"),
    ("org", "kindling.organisation"),
    ("stream", "kindling.stream"),
    ("first_byte_ms", "kindling.first_byte_ms"),
    ("outcome", "error.type"),
)
NOTHING = nullcontext()


class Traced(Protocol):
    """What a span wants to know of a request."""

    id: str
    status: int
    headers: dict[bytes, bytes]
    facts: dict[str, Any]

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str: ...


def traces_open(endpoint: str | None) -> "Traces | None":
    """Traces that are sent by OTLP over HTTP to a collector at `endpoint`; None without one.

    The settings have seen to it that OpenTelemetry is installed where there is an endpoint.
    """
    if endpoint is None:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
    return Traces(BatchSpanProcessor(exporter))


class Traces:
    """Begins the trace of each request, or goes on with the caller's; spans that end go to `processor`."""

    def __init__(self, processor: "SpanProcessor") -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(SERVICE)
        self._carrier = TraceContextTextMapPropagator()

    def begin(self, request: Traced) -> "Trace":
        """The trace of a request that has come in."""
        carried = {
            name: value.decode("latin-1")
            for name in CARRIED
            if (value := request.headers.get(name.encode())) is not None
        }
        return Trace(self._tracer, self._carrier, carried)

    def close(self) -> None:
        """Send what has ended and stop; waits for the collector for some seconds."""
        self._provider.shutdown()


class Trace:
    """The spans of one request."""

    __slots__ = ("_carrier", "_here", "_root", "_tracer", "_upstream")

    def __init__(self, tracer: Any, carrier: Any, carried: dict[str, str]) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        self._tracer = tracer
        self._carrier = carrier
        self._root: Span = tracer.start_span("request", carrier.extract(carried), SpanKind.SERVER)
        self._here = set_span_in_context(self._root)
        self._upstream: Span | None = None

    @property
    def id(self) -> str:
        """The trace's id in hex, as its viewer shows it."""
        from opentelemetry.trace import format_trace_id

        return format_trace_id(self._root.get_span_context().trace_id)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A span around a piece of work; an error that leaves it is named by its kind alone."""
        span = self._tracer.start_span(name, self._here)
        try:
            yield
        except BaseException as error:
            span.set_attribute("error.type", getattr(error, "code", None) or type(error).__name__)
            raise
        finally:
            span.end()

    def sent(self, replica: str) -> dict[str, str]:
        """A request goes to an engine: the headers by which the engine can go on with the trace."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        self.left()
        self._upstream = self._tracer.start_span("upstream", self._here, SpanKind.CLIENT)
        self._upstream.set_attribute("kindling.replica", replica)
        headers: dict[str, str] = {}
        self._carrier.inject(headers, set_span_in_context(self._upstream))
        return headers

    def heard(self) -> None:
        """The engine's first bytes are there."""
        if self._upstream:
            self._upstream.add_event("first byte")

    def left(self) -> None:
        """The engine is done with, or given up."""
        if self._upstream:
            self._upstream.end()
            self._upstream = None

    def end(self, request: Traced) -> None:
        """The request has ended."""
        from opentelemetry.trace import StatusCode

        self.left()
        root, route = self._root, route_find(request.path)
        status = request.status or CLIENT_GONE
        root.set_attribute("http.request.method", request.method)
        root.set_attribute("http.route", route.action.value if route else "other")
        root.set_attribute("http.response.status_code", status)
        root.set_attribute("kindling.request_id", request.id)
        for fact, name in NAMED:
            if fact in request.facts:
                root.set_attribute(name, request.facts[fact])
        if status >= 500:
            root.set_status(StatusCode.ERROR)
        root.end()


def part(trace: Trace | None, name: str) -> AbstractContextManager[None]:
    """A span around a piece of work where there is a trace."""
    return NOTHING if trace is None else trace.part(name)
