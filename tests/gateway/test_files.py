"""`/v1/files` by the official client: uploads of any size, read back to the byte, and nobody else's."""

import secrets

import httpx
import openai
import pytest

from kindling_gateway import GatewayServer, limit_row
from kindling_platform.gateway.surface.files import store, upload
from kindling_platform.gateway.surface.files.store import PART_BYTES

LINE = b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}}\n'


@pytest.fixture
def client(server: GatewayServer, scene) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=scene.key, max_retries=0)


def other_client(server: GatewayServer, scene) -> openai.OpenAI:
    key = scene.world.key(scene.world.org(f"nosy-{secrets.token_hex(4)}"))
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


@pytest.mark.parametrize("size", [1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 7])
def test_what_is_uploaded_is_read_back_to_the_byte(client: openai.OpenAI, scene, size: int):
    content = secrets.token_bytes(size)
    file = client.files.create(file=("täglich.jsonl", content), purpose="batch")
    assert (file.bytes, file.purpose, file.filename, file.status) == (
        size,
        "batch",
        "täglich.jsonl",
        "processed",
    )
    assert file.expires_at - file.created_at == 30 * 24 * 3600
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == content
    pieces = scene.world.rows("SELECT sealed FROM batches_filepart WHERE file_id = %s", file.id)
    assert len(pieces) == -(-size // PART_BYTES)
    assert not any(content[:40] in bytes(piece[0]) for piece in pieces if size >= 40)


def test_a_file_that_looks_like_a_form_is_a_file_all_the_same(client: openai.OpenAI):
    content = b'\r\n--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nvision\r\n--x--\r\n' * 3000
    file = client.files.create(file=("a.jsonl", content), purpose="batch")
    assert client.files.content(file.id).read() == content


def test_files_are_listed_in_pages_newest_first(client: openai.OpenAI):
    made = [client.files.create(file=(f"{n}.jsonl", LINE), purpose="batch").id for n in range(5)]
    first = client.files.list(limit=2)
    assert ([file.id for file in first.data], first.has_more) == (made[:2:-1], True)
    assert [file.id for file in client.files.list(limit=2)] == made[::-1]
    assert [file.id for file in client.files.list(limit=3, order="asc")] == made
    assert client.files.list(purpose="fine-tune").data == []


def test_a_deleted_file_is_gone_with_its_pieces(client: openai.OpenAI, scene):
    file = client.files.create(file=("a.jsonl", LINE), purpose="batch")
    assert client.files.delete(file.id).deleted
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError) as refused:
            call(file.id)
        assert refused.value.code == "file_not_found"
    assert scene.world.value("SELECT count(*) FROM batches_filepart WHERE file_id = %s", file.id) == 0


def test_nobody_else_sees_or_deletes_a_file(server: GatewayServer, client: openai.OpenAI, scene):
    file = client.files.create(file=("a.jsonl", LINE), purpose="batch")
    other = other_client(server, scene)
    assert other.files.list().data == []
    for call in (other.files.retrieve, other.files.content, other.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(file.id)
    assert client.files.content(file.id).read() == LINE


def test_a_client_token_reaches_no_files(server: GatewayServer, http: httpx.Client):
    token = http.post("/v1/client_tokens", json={"expires_in": 60}).json()["token"]
    with server.client(token) as client:
        answer = client.get("/v1/files")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "key_required")


def test_a_file_expires_when_its_owner_says(client: openai.OpenAI, scene):
    expiry = {"anchor": "created_at", "seconds": 3600}
    file = client.files.create(file=("a.jsonl", LINE), purpose="batch", expires_after=expiry)
    assert file.expires_at - file.created_at == 3600
    scene.world.execute("UPDATE batches_storedfile SET expires_at = now() WHERE id = %s", file.id)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


Files = dict[str, tuple[str, bytes] | tuple[None, str]]


@pytest.mark.parametrize(
    ("files", "data", "code", "param"),
    [
        ({"file": ("a", LINE)}, {}, "missing_field", "purpose"),
        ({}, {"purpose": "batch", "x": "y"}, "missing_field", "file"),
        ({"file": ("a", b"")}, {"purpose": "batch"}, "invalid_value", "file"),
        ({"file": ("a", LINE)}, {"purpose": "vision"}, "unsupported_field", "purpose"),
        ({"file": ("a", LINE)}, {"purpose": "party"}, "invalid_value", "purpose"),
        ({"file": ("a", LINE)}, {"purpose": "batch", "colour": "red"}, "unsupported_field", "colour"),
        ({"file": ("a", LINE)}, {"purpose": "b" * 5000}, "invalid_value", "purpose"),
        ({"file": ("a", LINE)}, {"purpose": "batch", "expires_after[anchor]": "now"}, "invalid_value",
         "expires_after.anchor"),
        ({"file": ("a", LINE)}, {"purpose": "batch", "expires_after[anchor]": "created_at",
                                 "expires_after[seconds]": "60"}, "invalid_value", "expires_after.seconds"),
    ],
)  # fmt: skip
def test_a_form_that_is_wrong_leaves_nothing(http: httpx.Client, scene, files, data, code: str, param: str):
    if not files:
        data, files = {}, {name: (None, value) for name, value in data.items() if name == "purpose"}
    answer = http.post("/v1/files", data=data, files=files)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)
    count = "SELECT count(*) FROM batches_storedfile WHERE organisation_id = %s"
    assert scene.world.value(count, scene.customer.id) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x",
        b"no form at all",
        b"--x\r\n\r\n",
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc',
        b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--\r\n",
        b"--x\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--x--\r\n",
        b"--x\r\n" + b"a" * 100_000,
        b"--x\r\nno header\r\n\r\nabc\r\n--x--\r\n",
        b"--x\r\nContent-Disposition: form-data; name=\xff\x00\r\n\r\nabc\r\n--x--\r\n",
        b'--x\r\nContent-Disposition: form-data; name="file"\r\nContent-Length: 99999\r\n\r\nabc\r\n--x--\r\n',
    ],
)
def test_a_body_that_is_no_form_is_refused(http: httpx.Client, body: bytes):
    kind = {"content-type": "multipart/form-data; boundary=x"}
    answer = http.post("/v1/files", content=body, headers=kind)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in ("invalid_multipart", "missing_field")
    assert http.get("/v1/files").json()["data"] == []


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data", "text/plain; x=multipart/form-data"]
)
def test_another_kind_of_body_is_refused(http: httpx.Client, kind: str):
    answer = http.post("/v1/files", content=b"{}", headers={"content-type": kind})
    assert answer.status_code in (400, 415)
    assert answer.json()["error"]["code"] in ("unsupported_media_type", "invalid_multipart")


@pytest.mark.parametrize(
    ("bound", "where", "code"),
    [("MAX_FILE_BYTES", upload, "file_too_large"), ("MAX_ORG_BYTES", store, "files_full")],
)
def test_too_much_is_refused_while_it_arrives(
    client: openai.OpenAI, scene, monkeypatch: pytest.MonkeyPatch, bound: str, where, code: str
):
    monkeypatch.setattr(where, bound, 2 * PART_BYTES)
    client.files.create(file=("a.jsonl", bytes(PART_BYTES)), purpose="batch")
    with pytest.raises(openai.APIStatusError) as refused:
        client.files.create(file=("a.jsonl", bytes(3 * PART_BYTES)), purpose="batch")
    assert (refused.value.status_code, refused.value.code) == (413, code)
    parts = "SELECT count(*) FROM batches_filepart p JOIN batches_storedfile f ON f.id = p.file_id"
    assert scene.world.value(f"{parts} WHERE organisation_id = %s", scene.customer.id) == 1


@pytest.mark.parametrize("status", [401, 429])
def test_a_refusal_is_heard_by_a_client_that_still_sends(server: GatewayServer, scene, status: int):
    limited = scene.world.key(scene.customer, limits=[limit_row("key", requests_per_minute=1)])
    with server.client(limited) as client:
        assert client.get("/v1/files").status_code == 200
    key = limited if status == 429 else "sk-none"
    with server.client(key) as client:
        files = {"file": ("a.jsonl", bytes(20 * PART_BYTES))}
        answer = client.post("/v1/files", data={"purpose": "batch"}, files=files)
    assert answer.status_code == status


def test_only_so_many_uploads_run_at_once(client: openai.OpenAI, scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "MAX_UPLOADS", 1)
    row = "(%s, %s, 'k', '', 'batch', 0, false, now(), now() + interval '1 day')"
    values = (f"file-{secrets.token_hex(16)}", scene.customer.id)
    scene.world.execute(f"INSERT INTO batches_storedfile VALUES {row}", *values)
    with pytest.raises(openai.RateLimitError) as refused:
        client.files.create(file=("a.jsonl", LINE), purpose="batch")
    assert refused.value.code == "too_many_uploads"
    scene.world.execute("UPDATE batches_storedfile SET created_at = now() - interval '1 hour'")
    assert client.files.create(file=("a.jsonl", LINE), purpose="batch").id
