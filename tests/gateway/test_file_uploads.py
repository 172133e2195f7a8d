"""Uploads and downloads that go another way than clients mean them to: in pieces, slowly, cut off, at the same time."""

import json
import logging
import secrets
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import psycopg
import pytest

from kindling_gateway import GatewayServer, eventually
from kindling_platform.gateway.surface.batches import queries
from kindling_platform.gateway.surface.files import store, upload
from kindling_platform.gateway.surface.files.store import PART_BYTES

LINE = b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}}\n'
FIELD = b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n'
PURPOSE = FIELD % (b"purpose", b"batch")
END = b"--x--\r\n"
ROWS = "SELECT count(*) FROM batches_storedfile WHERE organisation_id = %s"


@pytest.fixture
def client(server: GatewayServer, scene) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=scene.key, max_retries=0)


class Sending:
    """An upload whose body goes out as the test says."""

    def __init__(self, server: GatewayServer, key: str, size: int) -> None:
        self._connection = HTTPConnection(urlsplit(server.url).netloc, timeout=60)
        self._connection.putrequest("POST", "/v1/files")
        for name, value in (("authorization", f"Bearer {key}"), ("content-length", str(size))):
            self._connection.putheader(name, value)
        self._connection.putheader("content-type", "multipart/form-data; boundary=x")
        self._connection.endheaders()

    def send(self, pieces: Iterable[bytes], *, pause_s: float = 0.0) -> None:
        for piece in pieces:
            self._connection.send(piece)
            time.sleep(pause_s)

    def answer(self) -> tuple[int, dict[str, Any]]:
        response = self._connection.getresponse()
        body = json.loads(response.read())
        self._connection.close()
        return response.status, body


def sent(server: GatewayServer, key: str, *pieces: bytes, pause_s: float = 0.0) -> tuple[int, dict[str, Any]]:
    sending = Sending(server, key, sum(map(len, pieces)))
    sending.send(pieces, pause_s=pause_s)
    return sending.answer()


def test_a_form_may_be_cut_into_packets_anywhere(server: GatewayServer, client: openai.OpenAI, scene):
    expiry = FIELD % (b"expires_after[anchor]", b"created_at") + FIELD % (b"expires_after[seconds]", b"7200")
    form = PURPOSE + FILE % (b"a.jsonl", LINE) + expiry + END
    for cut in range(1, len(form)):
        status, file = sent(server, scene.key, form[:cut], form[cut:], pause_s=0.003)
        assert (status, file.get("purpose"), file.get("bytes")) == (200, "batch", len(LINE)), cut
        assert file["expires_at"] - file["created_at"] == 7200
    status, file = sent(server, scene.key, *(form[n : n + 1] for n in range(len(form))), pause_s=0.002)
    assert (status, file["filename"]) == (200, "a.jsonl")
    assert client.files.content(file["id"]).read() == LINE


def test_a_field_that_is_too_long_is_refused_however_it_comes(server: GatewayServer, scene):
    longest = FIELD % (b"purpose", b"b" * upload.MAX_FIELD_BYTES)
    for text, code in ((longest, "has to be one of"), (longest[:-2] + b"b\r\n", "may have at most")):
        form = text + FILE % (b"a", LINE) + END
        status, answer = sent(server, scene.key, *(form[n : n + 400] for n in range(0, len(form), 400)))
        assert (status, answer["error"]["param"]) == (400, "purpose")
        assert code in answer["error"]["message"]


def test_names_that_are_no_text_are_shown_as_far_as_they_are(server: GatewayServer, client, scene):
    status, file = sent(server, scene.key, PURPOSE + FILE % (b"n\xffcht.jsonl", LINE) + END)
    assert (status, file["filename"]) == (200, "n?cht.jsonl")
    assert client.files.retrieve(file["id"]).filename == "n?cht.jsonl"
    for name, shown in ((b"\xff", "?"), (b"\xed\xa0\x80", "???")):
        status, answer = sent(server, scene.key, FIELD % (name, b"a") + PURPOSE + FILE % (b"a", LINE) + END)
        assert (status, answer["error"]["code"], answer["error"]["param"]) == (
            400,
            "unsupported_field",
            shown,
        )
    assert scene.world.value(ROWS, scene.customer.id) == 1


@pytest.mark.parametrize("name", ["file-a%00b", "file-%ff", "%00", "file-" + "a" * 500, "file-" + "A" * 32])
def test_what_is_no_id_of_a_file_is_not_looked_for(http: httpx.Client, name: str):
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        answer = http.request(method, f"/v1/files/{name}{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("files?after=%00", "after"),
        ("files?purpose=%00", "purpose"),
        ("files?after=" + "a" * 101, "after"),
        ("batches?after=a%00", "after"),
    ],
)
def test_what_cannot_be_stored_is_not_searched_for(http: httpx.Client, path: str, param: str):
    answer = http.get(f"/v1/{path}")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_value", param)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What the server logs, which it otherwise keeps to itself."""
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
    return caplog


def test_a_download_that_breaks_off_is_seen_to_be_one(http: httpx.Client, client, scene, logged):
    content = secrets.token_bytes(3 * PART_BYTES)
    file = client.files.create(file=("a.jsonl", content), purpose="batch")
    scene.world.execute("DELETE FROM batches_filepart WHERE file_id = %s AND number = 2", file.id)
    got = bytearray()
    with (
        pytest.raises(httpx.RemoteProtocolError, match="without sending complete"),
        http.stream("GET", f"/v1/files/{file.id}/content") as answer,
    ):
        assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(content)))
        for part in answer.iter_raw():
            got += part
    assert bytes(got) == content[: 2 * PART_BYTES]
    assert "RuntimeError" not in logged.text
    assert http.get(f"/v1/files/{file.id}").status_code == 200


def test_pieces_in_another_order_are_not_given_out(http: httpx.Client, client, scene):
    file = client.files.create(file=("a.jsonl", secrets.token_bytes(2 * PART_BYTES)), purpose="batch")
    for old, new in ((0, 2), (1, 0), (2, 1)):
        change = "UPDATE batches_filepart SET number = %s WHERE file_id = %s AND number = %s"
        scene.world.execute(change, new, file.id, old)
    answer = http.get(f"/v1/files/{file.id}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")


def unfinished(scene, size: int) -> str:
    """An upload that runs elsewhere."""
    file_id = f"file-{secrets.token_hex(16)}"
    row = "(%s, %s, 'k', '', 'batch', %s, false, now(), now() + interval '1 day')"
    scene.world.execute(f"INSERT INTO batches_storedfile VALUES {row}", file_id, scene.customer.id, size)
    return file_id


def test_a_file_that_is_still_written_is_nobodys_to_see(http: httpx.Client, client: openai.OpenAI, scene):
    file_id = unfinished(scene, 4)
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(file_id)
    assert client.files.list().data == []
    batch = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert http.post("/v1/batches", json=batch).json()["error"]["code"] == "file_not_found"
    assert scene.world.value(ROWS, scene.customer.id) == 1


def test_room_is_what_files_and_running_uploads_leave(client: openai.OpenAI, scene, monkeypatch):
    monkeypatch.setattr(store, "MAX_ORG_BYTES", 3 * PART_BYTES)
    client.files.create(file=("a.jsonl", bytes(PART_BYTES)), purpose="batch")
    other = unfinished(scene, PART_BYTES)
    with pytest.raises(openai.APIStatusError) as refused:
        client.files.create(file=("a.jsonl", bytes(PART_BYTES)), purpose="batch")  # and its form's bytes
    assert (refused.value.status_code, refused.value.code) == (413, "files_full")
    scene.world.execute("DELETE FROM batches_storedfile WHERE id = %s", other)
    made = [client.files.create(file=("a.jsonl", bytes(900_000)), purpose="batch") for _ in range(2)]
    with pytest.raises(openai.APIStatusError) as refused:
        client.files.create(file=("a.jsonl", bytes(900_000)), purpose="batch")
    assert refused.value.code == "files_full"
    assert {file.bytes for file in made} == {900_000}
    assert scene.world.value(ROWS, scene.customer.id) == 3


def test_an_upload_of_unknown_size_counts_as_the_largest_until_it_has_ended(
    http: httpx.Client, scene, monkeypatch: pytest.MonkeyPatch
):
    form = PURPOSE + FILE % (b"a", LINE) + END
    seen: list[int] = []

    def body() -> Iterator[bytes]:
        yield form[:50]
        size = "SELECT size_bytes FROM batches_storedfile WHERE organisation_id = %s"
        seen.append(eventually(lambda: scene.world.value(size, scene.customer.id)))
        yield form[50:]

    kind = {"content-type": "multipart/form-data; boundary=x"}
    answer = http.post("/v1/files", content=body(), headers=kind)
    assert (answer.status_code, answer.json()["bytes"], seen) == (200, len(LINE), [upload.MAX_FILE_BYTES])
    monkeypatch.setattr(store, "MAX_ORG_BYTES", upload.MAX_FILE_BYTES)
    refused = http.post("/v1/files", content=iter([form]), headers=kind)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "files_full")


def test_one_upload_too_many_leaves_those_that_run_alone(server: GatewayServer, scene, monkeypatch):
    monkeypatch.setattr(store, "MAX_UPLOADS", 2)
    form = PURPOSE + FILE % (b"a", LINE) + END
    running = [Sending(server, scene.key, len(form)) for _ in range(2)]
    for one in running:
        one.send([form[:60]])
    eventually(lambda: scene.world.value(ROWS, scene.customer.id) == 2)
    status, refused = sent(server, scene.key, form)
    assert (status, refused["error"]["code"]) == (429, "too_many_uploads")
    for one in running:
        one.send([form[60:]])
    assert [one.answer()[0] for one in running] == [200, 200]
    assert sent(server, scene.key, form)[0] == 200
    assert scene.world.value(ROWS, scene.customer.id) == 3


def test_of_uploads_that_begin_at_once_no_more_run_than_may(client: openai.OpenAI, scene, monkeypatch):
    monkeypatch.setattr(store, "MAX_ORG_BYTES", 3 * PART_BYTES)

    def upload_one(_: int) -> int:
        try:
            client.files.create(file=("a.jsonl", bytes(900_000)), purpose="batch")
        except openai.APIStatusError as error:
            assert error.code == "files_full"
            return 0
        return 1

    with ThreadPoolExecutor(6) as threads:
        made = sum(threads.map(upload_one, range(6)))
    assert made <= 3
    assert scene.world.value(ROWS, scene.customer.id) == made


def test_an_upload_that_never_ends_is_ended(server: GatewayServer, scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upload, "UPLOAD_S", 0.6)
    form = PURPOSE + FILE % (b"a", LINE * 100)
    sending = Sending(server, scene.key, 10 * len(form))
    sending.send((form[n : n + 50] for n in range(0, 1000, 50)), pause_s=0.05)
    status, answer = sending.answer()
    assert (status, answer["error"]["code"]) == (408, "request_timeout")
    eventually(lambda: scene.world.value(ROWS, scene.customer.id) == 0)


def test_a_file_stays_for_the_batch_that_begins_while_it_is_deleted(
    http: httpx.Client, client: openai.OpenAI, scene
):
    file = client.files.create(file=("a.jsonl", LINE), purpose="batch")
    values = {
        "id": f"batch_{secrets.token_hex(16)}", "org": scene.customer.id, "key": "k", "digest": b"", "file": file.id,
        "endpoint": "/v1/chat/completions", "metadata": None, "output_s": 3600, "window_s": 3600, "kept_s": 3600,
        "total": 0,
        "most": 100,
    }  # fmt: skip
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(scene.world.url) as creation, ThreadPoolExecutor(1) as thread:
        creation.execute(queries.INSERT, values)
        creation.execute(
            "UPDATE batches_batch SET due_at = now() + interval '1 hour' WHERE id = %(id)s", values
        )
        deleted = thread.submit(http.delete, f"/v1/files/{file.id}")
        eventually(lambda: scene.world.value(waits))
        creation.commit()
        answer = deleted.result()
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "file_in_use")
    assert http.delete(f"/v1/files/{file.id}").json()["error"]["code"] == "file_in_use"
    assert client.files.content(file.id).read() == LINE
    scene.world.execute("UPDATE batches_batch SET status = 'cancelled' WHERE id = %s", values["id"])
    assert http.delete(f"/v1/files/{file.id}").status_code == 200
    assert scene.world.value(ROWS, scene.customer.id) == 0
