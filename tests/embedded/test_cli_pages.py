"""Lists that have more than one page, against a server of the same form as the API."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from kindling_platform.cli.app import app
from kindling_platform.cli.client import Client
from kindling_platform.cli.credentials import Credentials
from kindling_platform.cli.errors import CliError
from kindling_platform.cli.upload import adapter_upload

DEFAULT_ROWS = 50
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


class Platform(ThreadingHTTPServer):
    """Lists of `rows` by path, in pages; one adapter by its name; parts of its files."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.calls: list[str] = []
        self.received: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, Any]:
        self.calls.append(f"{method} {path}")
        if path in self.rows and method == "GET":
            at, limit = int(query.get("cursor", ["0"])[0]), int(query.get("limit", [str(DEFAULT_ROWS)])[0])
            page = self.rows[path][at : at + limit]
            more = at + limit < len(self.rows[path])
            return 200, {"data": page, "next_cursor": str(at + limit) if more else None}
        _, _, kind, which, *rest = path.strip("/").split("/") + [""] * 4
        found = [row for row in self.rows["/api/v1/adapters"] if which in (row["id"], row["name"])]
        if not found:
            return 404, {"error": {"code": "not_found", "message": f"There is no such {kind}."}}
        if rest[0] == "complete":
            found[0]["state"] = "ready"
        elif rest[0] == "files" and method == "PUT":
            self.received[rest[1]] = self.received.get(rest[1], 0) + len(body)
        elif rest[0] == "files":
            sizes = {CONFIG: 2, WEIGHTS: 4}
            files = [
                {"name": name, "size_bytes": size, "received_bytes": self.received.get(name, 0)}
                for name, size in sizes.items()
            ]
            return 200, {"data": files}
        return 200, found[0]


class Handler(BaseHTTPRequestHandler):
    server: Platform

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, answer = self.server.answer(self.command, parts.path, parse_qs(parts.query), body)
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = handle_any

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    with Platform() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("KINDLING_URL", server.url)
        monkeypatch.setenv("KINDLING_API_KEY", "kd_x")
        yield server
        server.shutdown()
        thread.join()


def adapters(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"ada_{n}", "name": f"voice-{n}", "base_model": "kindling/spark", "state": "ready"}
        for n in range(count)
    ]


def listed(*arguments: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, [*arguments, "list", "--json"], catch_exceptions=False)
    return list(json.loads(done.stdout))


@pytest.mark.parametrize("what", ["keys", "adapters", "deployments"])
@pytest.mark.parametrize("count", [0, 50, 200, 450])
def test_a_list_has_every_row_once(platform: Platform, what: str, count: int):
    rows = [{"id": f"id_{n}", "name": f"name-{n}"} for n in range(count)]
    platform.rows[f"/api/v1/{what}"] = rows
    assert listed(what) == rows


def test_an_upload_goes_on_however_many_adapters_there_are(platform: Platform, tmp_path: Path):
    rows = platform.rows["/api/v1/adapters"] = adapters(300)
    rows[299]["state"] = "uploading"
    platform.received = {CONFIG: 2, WEIGHTS: 1}
    (tmp_path / CONFIG).write_bytes(b"{}")
    (tmp_path / WEIGHTS).write_bytes(b"1234")
    client = Client(Credentials(platform.url, "kd_x"))
    made = adapter_upload(
        client, folder=tmp_path, name="voice-299", base="kindling/spark", say=lambda *_: None
    )
    assert made["id"] == "ada_299" and made["state"] == "ready"
    assert platform.received == {CONFIG: 2, WEIGHTS: 4}
    assert "POST /api/v1/adapters" not in platform.calls


@pytest.mark.parametrize(
    ("name", "base"),
    [("voice-1", "kindling/spark"), ("ada_299", "kindling/spark"), ("voice-299", "other/base")],
)
def test_only_an_unfinished_one_of_the_same_name_and_base_is_gone_on_with(
    platform: Platform, tmp_path: Path, name: str, base: str
):
    rows = platform.rows["/api/v1/adapters"] = adapters(300)
    rows[299]["state"] = "uploading"
    (tmp_path / CONFIG).write_bytes(b"{}")
    (tmp_path / WEIGHTS).write_bytes(b"1234")
    # This platform opens no upload.
    with pytest.raises(CliError):
        adapter_upload(
            Client(Credentials(platform.url, "kd_x")),
            folder=tmp_path,
            name=name,
            base=base,
            say=lambda *_: None,
        )
    assert platform.calls[-1] == "POST /api/v1/adapters"
