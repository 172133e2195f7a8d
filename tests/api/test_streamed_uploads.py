"""Uploads through a real server: refused while they arrive, resumed after they broke."""

import http.client
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from kindling_engine.starter import ADAPTER_PATHS
from kindling_people import Customer, make_customer, make_model, make_operator
from kindling_platform.adapters.storage import upload_folder
from kindling_platform.embedded.ports import hold_port
from kindling_tenant import poll
from kindling_worker import worker_env

pytestmark = pytest.mark.django_db(transaction=True)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
CONTENT = {name: (ADAPTER_PATHS["intent"] / name).read_bytes() for name in (CONFIG, WEIGHTS)}
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def url(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The web process as it is served, on the test database."""
    hold = hold_port()
    with (tmp_path_factory.mktemp("web") / "log").open("wb") as log:
        command = [sys.executable, "-m", "uvicorn", "kindling_platform.config.asgi:application"]
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(hold.port), "--lifespan", "off"],
            env=worker_env(), stdout=log, stderr=log,
        )  # fmt: skip
        address = f"http://127.0.0.1:{hold.port}"
        try:
            poll(lambda: answers(address), bool, seconds=60, every=0.1)
            yield address
        finally:
            process.kill()
            process.wait()
            hold.release()


def answers(address: str) -> bool:
    try:
        return httpx.get(address + "/healthz", timeout=60).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def ada() -> Customer:
    make_model(make_operator())
    return make_customer("ada")


class Wire:
    """One connection on which a request can be sent piece by piece."""

    def __init__(self, url: str, key: str) -> None:
        self.http = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self.key = key

    def begin(self, method: str, path: str, length: int, **headers: str) -> None:
        self.http.putrequest(method, f"/api/v1/{path}")
        given = {"Authorization": f"Bearer {self.key}", "Content-Length": str(length), **headers}
        for name, value in given.items():
            self.http.putheader(name, value)
        self.http.endheaders()

    def answer(self) -> tuple[int, dict]:
        reply = self.http.getresponse()
        return reply.status, json.loads(reply.read() or b"null")

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict]:
        self.begin(method, path, len(body), **headers)
        self.http.send(body)
        return self.answer()


def create(wire: Wire, weights_bytes: int) -> str:
    files = [
        {"name": CONFIG, "size_bytes": len(CONTENT[CONFIG])},
        {"name": WEIGHTS, "size_bytes": weights_bytes},
    ]
    body = json.dumps({"name": "mine", "base_model": "kindling/spark", "files": files}).encode()
    status, made = wire.call("POST", "adapters", body, **{"Content-Type": "application/json"})
    assert status == 201, made
    status, _ = wire.call("PUT", f"adapters/{made['id']}/files/{CONFIG}", CONTENT[CONFIG])
    assert status == 200
    return made["id"]


def test_a_wrong_base_is_refused_while_the_weights_are_still_on_their_way(url: str, ada: Customer):
    header = json.dumps(
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": {
            "dtype": "F32", "shape": [8, 4096 * 256], "data_offsets": [0, 8 * 4096 * 256 * 4]}}
    ).encode()  # fmt: skip
    first = struct.pack("<Q", len(header)) + header
    total = len(first) + 8 * 4096 * 256 * 4
    wire = Wire(url, ada.key())
    adapter = create(wire, total)
    sender = Wire(url, ada.key())
    sender.begin("PUT", f"adapters/{adapter}/files/{WEIGHTS}", total)
    sender.http.send(first.ljust(MEGABYTE + 1, b"\0"))  # and no more: 32 MB are announced
    status, body = sender.answer()
    assert (status, body["error"]["code"]) == (409, "adapter_rejected")
    assert wire.call("GET", f"adapters/{adapter}")[1]["state"] == "rejected"


def test_a_stranger_is_refused_before_the_body_is_read(url: str, ada: Customer):
    sender = Wire(url, "kd_live_nobody")
    sender.begin("PUT", f"adapters/adp_1/files/{WEIGHTS}", 100 * MEGABYTE)
    sender.http.send(b"x")
    assert sender.answer()[0] == 401


def test_an_upload_that_broke_goes_on_where_it_stopped(url: str, ada: Customer):
    content = CONTENT[WEIGHTS]
    half = len(content) // 2
    wire = Wire(url, ada.key())
    adapter = create(wire, len(content))
    sender = Wire(url, ada.key())
    sender.begin("PUT", f"adapters/{adapter}/files/{WEIGHTS}", len(content))
    sender.http.send(content[:half])
    poll((upload_folder(adapter) / WEIGHTS).exists, bool, every=0.02)
    busy, body = wire.call("PUT", f"adapters/{adapter}/files/{WEIGHTS}", content)
    assert (busy, body["error"]["code"]) == (409, "upload_busy")
    sender.http.close()

    def received() -> int:
        rows = wire.call("GET", f"adapters/{adapter}/files")[1]["data"]
        return {row["name"]: row["received_bytes"] for row in rows}[WEIGHTS]

    assert poll(received, lambda seen: seen == half) == half
    headers = {"Content-Range": f"bytes {half}-{len(content) - 1}/{len(content)}"}
    status, row = wire.call("PUT", f"adapters/{adapter}/files/{WEIGHTS}", content[half:], **headers)
    assert (status, row["received_bytes"]) == (200, len(content))
    assert wire.call("POST", f"adapters/{adapter}/complete")[1]["state"] == "validating"


def test_many_uploads_that_stall_leave_the_api_alone(url: str, ada: Customer):
    wire = Wire(url, ada.key())
    adapter_key = ada.key()
    stalled = []
    for number in range(20):
        body = json.dumps({"name": f"a{number}", "base_model": "kindling/spark", "files": [
            {"name": WEIGHTS, "size_bytes": MEGABYTE}]}).encode()  # fmt: skip
        made = wire.call("POST", "adapters", body, **{"Content-Type": "application/json"})[1]
        sender = Wire(url, adapter_key)
        sender.begin("PUT", f"adapters/{made['id']}/files/{WEIGHTS}", MEGABYTE)
        sender.http.send(b"x")
        stalled.append(sender)
    assert wire.call("GET", "me")[0] == 200
    for sender in stalled:
        sender.http.close()
