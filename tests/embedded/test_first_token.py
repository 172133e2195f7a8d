"""The proof of a start asks where the model answers, and takes for an answer what is one."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.first_token import FirstToken, first_token_get

USED = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
UNUSED = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}}


@dataclass
class Gateway:
    """What the server says, in turn, as status and body or chunks; what it was asked."""

    says: list[tuple[int, Any]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    url: str = ""

    def ask(self, surface: str) -> FirstToken:
        return first_token_get(url=self.url, key="k", model="m", surface=surface, timeout_s=5)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    told = Gateway()

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.asked.append((self.path, body))
            status, said = told.says.pop(0)
            self.send_response(status)
            self.send_header("x-request-id", "req_7")
            self.end_headers()
            if isinstance(said, list):
                lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in said]
                self.wfile.write("".join([*lines, "data: [DONE]\n\n"]).encode())
            else:
                self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    yield told
    server.shutdown()
    server.server_close()


def chunk(**choice: Any) -> dict[str, Any]:
    return {"choices": [choice]}


@pytest.mark.parametrize(
    ("surface", "path", "said"),
    [
        ("chat", "/v1/chat/completions", [chunk(delta={"role": "assistant"}), chunk(delta={"content": "A"}), USED]),
        # A model that thinks first has not come to its answer after so few tokens.
        ("chat", "/v1/chat/completions", [chunk(delta={"reasoning_content": "Well"}), USED]),
        # Tokens that no text is made of, as weights without sense may choose, are generated and billed all the same.
        ("chat", "/v1/chat/completions", [chunk(delta={}, finish_reason="stop"), USED]),
        ("completions", "/v1/completions", [chunk(text="A"), USED]),
        ("embeddings", "/v1/embeddings", {"data": [{"embedding": [0.5]}]}),
    ],
)  # fmt: skip
def test_each_kind_of_model_is_asked_in_its_way(gateway: Gateway, surface: str, path: str, said: Any):
    gateway.says = [(503, {"error": {}}), (200, said)]
    found = gateway.ask(surface)
    assert found.request_id == "req_7" and found.at > 0
    assert [asked for asked, _ in gateway.asked] == [path, path]
    body = gateway.asked[-1][1]
    wanted = {"chat": "messages", "completions": "prompt", "embeddings": "input"}
    assert {"messages", "prompt", "input"} & body.keys() == {wanted[surface]}
    assert ("stream" in body, "max_tokens" in body) == (surface != "embeddings", surface != "embeddings")


@pytest.mark.parametrize(
    ("surface", "said", "why"),
    [
        ("chat", (200, [chunk(delta={}, finish_reason="stop"), UNUSED]), "without a single token"),
        ("completions", (200, [chunk(text=""), UNUSED]), "without a single token"),
        ("chat", (200, [{"error": {"message": "The engine is gone."}}]), "broke off: The engine is gone."),
        ("embeddings", (200, {"data": []}), "without a vector"),
        ("chat", (400, {"error": {"message": "No.", "code": "nope"}}), r"not answered: No. \[nope\]"),
    ],
)  # fmt: skip
def test_what_is_no_answer_fails(gateway: Gateway, surface: str, said: tuple[int, Any], why: str):
    gateway.says = [said]
    with pytest.raises(EmbeddedError, match=why) as failed:
        gateway.ask(surface)
    assert failed.value.code == "first_token_failed"


def test_a_vector_that_breaks_off_fails(gateway: Gateway):
    gateway.says = [(200, [])]
    with pytest.raises(EmbeddedError, match="broke off"):
        gateway.ask("embeddings")


REFUSALS = ["invalid_value", "context_length_exceeded"]


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("surface", ["chat", "completions"])
def test_where_the_usual_request_is_too_much_a_word_is_completed(gateway: Gateway, surface: str, code: str):
    said = {"error": {"message": "No chats of one turn.", "code": code}}
    gateway.says = [(400, said), (503, {"error": {}}), (200, [chunk(text="A"), USED])]
    found = gateway.ask(surface)
    assert found.refused == f"No chats of one turn. [{code}]"
    assert found.path == gateway.asked[-1][0] == "/v1/completions"
    assert found.body == {"model": "m", "prompt": "Hello", "max_tokens": 4}
    assert found.body.items() <= gateway.asked[-1][1].items() and gateway.asked[-1][1]["stream"]


def test_a_context_that_is_too_short_for_a_sentence_gets_a_word(gateway: Gateway):
    said = {"error": {"message": "Too long.", "code": "context_length_exceeded"}}
    gateway.says = [(400, said), (200, {"data": [{"embedding": [0.5]}]})]
    found = gateway.ask("embeddings")
    assert (
        gateway.asked[-1]
        == (found.path, found.body)
        == ("/v1/embeddings", {"model": "m", "input": ["Hello"]})
    )


def test_a_model_that_takes_no_word_either_fails_with_the_first_reason(gateway: Gateway):
    said = {"error": {"message": "No chats of one turn.", "code": "invalid_value"}}
    gateway.says = [(400, said), (400, {"error": {"message": "No.", "code": "invalid_value"}})]
    with pytest.raises(EmbeddedError, match="No chats of one turn") as failed:
        gateway.ask("chat")
    assert failed.value.code == "first_token_failed" and len(gateway.asked) == 2


def test_what_was_answered_is_what_is_shown(gateway: Gateway):
    gateway.says = [(200, [chunk(delta={"content": "A"}), USED])]
    found = gateway.ask("chat")
    assert (found.path, found.body["max_tokens"], found.refused) == ("/v1/chat/completions", 120, "")
