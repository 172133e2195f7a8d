"""Waiting for the first engine: how far it is gets told, and a start that goes on is not given up."""

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from rich.console import Console

from kindling_platform.embedded import engine_wait as room
from kindling_platform.embedded.engine_wait import engine_wait
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.progress import Progress


@pytest.fixture
def agent() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """An agent's list of replicas, and the states that it will report, one a call; the last stays."""
    states: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state = states.pop(0) if len(states) > 1 else states[0]
            body = json.dumps({"replicas": [{"name": "dep_1-g1-r0", **state}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", states
    server.shutdown()
    server.server_close()


def _wait(url: str, heard: list[str], hint: str = "") -> str:
    return engine_wait(
        agent_url=url, token="t", deployment_id="dep_1", tend=lambda: None, say=heard.append, hint=hint
    )


def test_news_are_passed_on_once_each(agent):
    url, states = agent
    states += [
        {"state": "starting", "reason": ""},
        {"state": "starting", "reason": "Reading weights: 1.0 of 8.0 GB."},
        {"state": "starting", "reason": "Reading weights: 1.0 of 8.0 GB."},
        {"state": "starting", "reason": "Reading weights: 5.0 of 8.0 GB."},
        {"state": "ready", "reason": ""},
    ]
    heard: list[str] = []
    assert _wait(url, heard) == "dep_1-g1-r0"
    assert heard == ["Reading weights: 1.0 of 8.0 GB.", "Reading weights: 5.0 of 8.0 GB."]


def test_a_start_that_gets_on_is_waited_for_and_a_silent_one_is_not(agent, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(room, "TIMEOUT_S", 0.3)
    url, states = agent
    states += [{"state": "starting", "reason": f"Reading weights: {index} of 9 GB."} for index in range(9)]
    heard: list[str] = []
    with pytest.raises(EmbeddedError) as caught:
        _wait(url, heard)
    assert caught.value.code == "engine_late" and len(heard) == 9


def test_a_failure_says_the_engines_reason(agent):
    url, states = agent
    states += [{"state": "failed", "reason": "The checkpoint has no tensor x."}]
    with pytest.raises(EmbeddedError) as caught:
        _wait(url, [], hint=" Try another.")
    assert caught.value.code == "engine_failed" and "no tensor x. Try another." in caught.value.message


def test_news_are_lines_where_there_is_no_terminal():
    progress = Progress()
    out = io.StringIO()
    progress.console = Console(file=out)
    with progress.step("engine"):
        progress.news("Reading weights: 1.0 of 8.0 GB.")
        progress.news("Reading weights: 1.1 of 8.0 GB.")
    text = out.getvalue()
    assert text.count("Reading weights") == 1 and "✓ engine" in text
