"""Lists of more than one page and uploads that go on, against a server of the same form as the API."""

import hashlib
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
        self.sizes = {CONFIG: 2, WEIGHTS: 4}
        self.received: dict[str, bytes] = {}

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
        if path == "/api/v1/adapters":
            return self.created(json.loads(body))
        _, _, kind, which, *rest = path.strip("/").split("/") + [""] * 4
        found = [row for row in self.rows["/api/v1/adapters"] if which in (row["id"], row["name"])]
        if not found:
            return 404, {"error": {"code": "not_found", "message": f"There is no such {kind}."}}
        if rest[0] == "complete":
            found[0]["state"] = "ready"
        elif rest[0] == "files" and method == "PUT":
            self.received[rest[1]] = self.received.get(rest[1], b"") + body
        elif rest[0] == "files":
            there = self.received.get(rest[1], b"")
            return 200, {"received_bytes": len(there), "sha256": hashlib.sha256(there).hexdigest()}
        files = [
            {"name": name, "size_bytes": size, "received_bytes": len(self.received.get(name, b""))}
            for name, size in self.sizes.items()
        ]
        return 200, found[0] | {"files": files}

    def created(self, asked: dict[str, Any]) -> tuple[int, Any]:
        """Open an upload; an unfinished one of the same name makes way."""
        self.rows["/api/v1/adapters"] = [
            row for row in self.rows["/api/v1/adapters"] if row["name"] != asked["name"]
        ]
        self.sizes = {file["name"]: file["size_bytes"] for file in asked["files"]}
        self.received = {}
        made = {"id": "ada_new", "state": "uploading"} | asked
        self.rows["/api/v1/adapters"].append(made)
        return 201, made


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


def push(platform: Platform, folder: Path, name: str = "voice-299", base: str = "kindling/spark") -> Any:
    client = Client(Credentials(platform.url, "kd_x"))
    return adapter_upload(client, folder=folder, name=name, base=base, say=lambda *_: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / CONFIG).write_bytes(b"{}")
    (tmp_path / WEIGHTS).write_bytes(b"1234")
    return tmp_path


def test_an_upload_goes_on_however_many_adapters_there_are(platform: Platform, folder: Path):
    rows = platform.rows["/api/v1/adapters"] = adapters(300)
    rows[299]["state"] = "uploading"
    platform.received = {CONFIG: b"{}", WEIGHTS: b"1"}
    made = push(platform, folder)
    assert made["id"] == "ada_299" and made["state"] == "ready"
    assert platform.received == {CONFIG: b"{}", WEIGHTS: b"1234"}
    assert f"PUT /api/v1/adapters/ada_299/files/{CONFIG}" not in platform.calls
    assert "POST /api/v1/adapters" not in platform.calls


@pytest.mark.parametrize(
    "received",
    [
        {CONFIG: b"{}", WEIGHTS: b"2"},
        {CONFIG: b"[]", WEIGHTS: b"1"},
        {CONFIG: b"{}", WEIGHTS: b"0234"},
        {CONFIG: b"{}", "README.md": b"another"},
    ],
)
def test_other_files_begin_anew(platform: Platform, folder: Path, received: dict[str, bytes]):
    rows = platform.rows["/api/v1/adapters"] = adapters(300)
    rows[299]["state"] = "uploading"
    platform.received = received
    platform.sizes |= {"README.md": 7}
    assert push(platform, folder)["id"] == "ada_new"
    assert platform.received == {CONFIG: b"{}", WEIGHTS: b"1234"}


def test_files_of_another_size_begin_anew(platform: Platform, folder: Path):
    rows = platform.rows["/api/v1/adapters"] = adapters(300)
    rows[299]["state"] = "uploading"
    (folder / CONFIG).write_bytes(b'{"r": 8}')
    assert push(platform, folder)["id"] == "ada_new"
    assert platform.received == {CONFIG: b'{"r": 8}', WEIGHTS: b"1234"}


def test_a_card_that_is_left_out_now_changes_nothing_once_the_weights_agree(platform: Platform, folder: Path):
    rows = platform.rows["/api/v1/adapters"] = adapters(300)
    rows[299]["state"] = "uploading"
    platform.received = {WEIGHTS: b"12", "README.md": b"card"}
    platform.sizes |= {"README.md": 4}
    assert push(platform, folder)["id"] == "ada_299"
    assert platform.received == {CONFIG: b"{}", WEIGHTS: b"1234", "README.md": b"card"}


@pytest.mark.parametrize(
    ("name", "base"),
    [("voice-1", "kindling/spark"), ("ada_299", "kindling/spark"), ("voice-299", "other/base")],
)
def test_only_an_unfinished_one_of_the_same_name_and_base_is_gone_on_with(
    platform: Platform, folder: Path, name: str, base: str
):
    rows = platform.rows["/api/v1/adapters"] = adapters(300)
    rows[299]["state"] = "uploading"
    assert push(platform, folder, name, base)["id"] == "ada_new"
