"""What the command line prints: tables that people read and programs cut up, and what it says of strangers."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from rich.console import Console

from kindling_platform.cli import models, output
from kindling_platform.cli.client import Client
from kindling_platform.cli.credentials import Credentials
from kindling_platform.cli.errors import CliError

ID = "key_01m8nt7afgfrf82srjzaa4d7d7"
ROWS = [{"id": ID, "name": "a name of some length", "error": "why it does not work " * 10}]


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    output.print_rows(ROWS, ["id", "name", "error"], as_json=False, empty="")
    return capsys.readouterr().out.splitlines()


def test_programs_find_a_row_on_a_line(capsys: pytest.CaptureFixture[str]):
    _, row = shown(capsys)
    assert row.startswith(f"{ID}  a name of some length  ") and row.count("why it does not work") == 10


def test_an_id_stands_on_one_line_however_narrow_the_terminal_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(output, "console", Console(width=60))
    lines = shown(capsys)
    assert lines[1].startswith(ID) and len(lines) > 5
    assert all(len(line) <= 60 for line in lines)


def test_a_table_says_lists_and_moments_in_words(capsys: pytest.CaptureFixture[str]):
    row = {"scopes": ["read", "manage"], "at": "2026-12-01T05:58:23.031450Z", "until": None, "replicas": 0}
    output.print_rows([row], list(row), as_json=False, empty="")
    _, said = capsys.readouterr().out.splitlines()
    assert said.split() == ["read,", "manage", "2026-12-01", "05:58:23", "UTC", "0"]
    output.print_rows([row], list(row), as_json=True, empty="")
    assert '"2026-12-01T05:58:23.031450Z"' in capsys.readouterr().out


class Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Welcome!</html>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_another_web_server_is_told_apart(stranger: str):
    with pytest.raises(CliError) as refused:
        Client(Credentials(url=stranger, key="kd_x")).get("/api/v1/models")
    assert refused.value.code == "not_kindling" and stranger in refused.value.message


def test_a_price_of_a_model_is_exact():
    prices = [models._price(picousd) for picousd in (100_000, 12_345, 1_500_000_000, 0)]
    assert prices == ["$0.10", "$0.012345", "$1,500.00", "$0.00"]
