"""One port for both halves: which paths go to the gateway and which to Django."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from kindling_platform.common.slugs import RESERVED
from kindling_platform.gateway.routes import OTHER_PATHS, Action, Route, route_find


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/chat/completions", Route(Action.CHAT)),
        ("/inference/v1/completions", Route(Action.COMPLETION)),
        ("/acme/v1/embeddings", Route(Action.EMBEDDING, "acme")),
        ("/acme/v1/chat/completions", Route(Action.CHAT, "acme")),
        ("/v1/models", Route(Action.MODELS)),
        ("/v1/models/a/b", Route(Action.MODEL, None, "a/b")),
        ("/acme/v1/models/b#c", Route(Action.MODEL, "acme", "b#c")),
        ("/v1", Route(Action.ROOT)),
        ("/v1/", Route(Action.ROOT)),
        ("/acme/v1", Route(Action.ROOT, "acme")),
        ("/v1/models/", Route(Action.MODELS)),
        ("/v1//chat/completions", Route(Action.CHAT)),
        ("//acme//v1/chat/completions/", Route(Action.CHAT, "acme")),
        ("/console//v1/models", None),
        ("/v1/else", Route(Action.UNKNOWN)),
        ("/", None),
        ("/console/", None),
        ("/api/v1/models", None),
        ("/accounts/v1/x", None),
        ("/static/v1/x", None),
        ("/v10/chat/completions", None),
        ("/a/b/v1/models", None),
        ("//v1/models", Route(Action.MODELS)),
        ("//", None),
        ("/healthz", None),
    ],
)
def test_paths(path: str, expected: Route | None):
    assert route_find(path) == expected


def test_no_organisation_can_take_a_path_of_the_platform():
    assert OTHER_PATHS <= RESERVED


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = [sys.executable, "-m", "uvicorn", "kindling_platform.config.asgi_all:application"]
    path = tmp_path_factory.mktemp("web") / "log"
    log = path.open("wb")
    process = subprocess.Popen([*server, "--port", str(port), "--lifespan", "on"], stderr=log, stdout=log)
    try:
        deadline = time.monotonic() + 60
        while not is_up(f"http://127.0.0.1:{port}"):
            if time.monotonic() > deadline or process.poll() is not None:
                raise AssertionError(path.read_text()[-4000:])
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) is not None
    finally:
        process.kill()
        process.wait()
        log.close()


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=60).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("path", ["/v1/models", "/inference/v1/models", "/acme/v1/models"])
def test_the_gateway_answers_its_paths(url: str, path: str):
    reply = httpx.get(url + path, timeout=60)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
    assert "x-request-id" in reply.headers
    assert "content-security-policy" not in reply.headers


def test_health_is_that_of_what_serves(url: str):
    said = httpx.get(f"{url}/healthz", timeout=60).json()
    assert said == {"status": "ok", "checks": {"valkey": True, "database": True, "spool": True}}


def test_metrics_are_the_gateways(url: str):
    assert "kindling_gateway_requests_running 1.0" in httpx.get(f"{url}/metrics", timeout=60).text


@pytest.mark.parametrize("path", ["/", "/no-such-page"])
def test_django_answers_the_others(url: str, path: str):
    reply = httpx.get(url + path, timeout=60)
    assert reply.status_code in (200, 302, 404)
    assert reply.headers["x-request-id"].startswith("req_")  # the gateway's are UUIDs
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_a_body_that_is_too_large_is_refused_as_each_half_speaks(url: str):
    browser, large = {"Accept": "text/html,*/*;q=0.8"}, b"x" * 9_000_000
    # A page that asks the database for nothing; the words wait in a cookie for one that shows them.
    reply = httpx.post(f"{url}/errors/", content=large, headers=browser, timeout=60)
    assert (reply.status_code, reply.headers["connection"]) == (413, "close")
    assert "<h1" in reply.text and "what you sent is too large" in reply.headers["set-cookie"] + reply.text
    for path in ("/v1/chat/completions", "/api/v1/keys"):
        said = httpx.post(f"{url}{path}", content=large, headers=browser, timeout=60)
        assert said.status_code in (401, 413) and said.headers["content-type"] == "application/json"
        assert said.json()["error"]["code"] in ("invalid_api_key", "request_too_large")
