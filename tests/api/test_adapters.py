"""Uploads over the API: parts, resume, early refusals, zips."""

import hashlib
import io
import json
import struct
import zipfile
from pathlib import Path

import pytest
from django.conf import settings as django_settings

from kindling_engine.starter import ADAPTER_PATHS
from kindling_people import ApiClient, Customer, make_model
from kindling_platform.adapters.models import Adapter
from kindling_platform.adapters.storage import blob_store, upload_folder
from kindling_platform.catalog.models import Model

pytestmark = pytest.mark.django_db
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FOLDER = ADAPTER_PATHS["intent"]
CONTENT = {name: (FOLDER / name).read_bytes() for name in (CONFIG, WEIGHTS)}
PUBLIC_BASE = "kindling/spark"


@pytest.fixture(autouse=True)
def spark(operator: Customer) -> Model:
    return make_model(operator)


def create(client: ApiClient, name: str = "mine", files: dict[str, bytes] | None = None) -> str:
    claims = [
        {"name": file, "size_bytes": len(data)}
        for file, data in (CONTENT if files is None else files).items()
    ]
    reply = client.call("post", "adapters", {"name": name, "base_model": PUBLIC_BASE, "files": claims})
    assert reply.status_code == 201, reply.content
    return reply.json()["id"]


def error_of(reply) -> str:
    assert reply.status_code >= 400, reply.content
    return reply.json()["error"]["code"]


def zip_of(entries: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", kind) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return packed.getvalue()


def test_two_files_make_an_adapter_that_waits_for_its_checks(
    ada: Customer, django_capture_on_commit_callbacks
):
    client = ada.client()
    adapter = create(client)
    for name, content in CONTENT.items():
        put = client.send(f"adapters/{adapter}/files/{name}", content)
        assert put.json() == {"name": name, "size_bytes": len(content), "received_bytes": len(content)}
    with django_capture_on_commit_callbacks(execute=False) as jobs:
        done = client.call("post", f"adapters/{adapter}/complete")
    assert (done.status_code, done.json()["state"]) == (200, "validating")
    assert len(jobs) == 1
    again = client.call("post", f"adapters/{adapter}/complete")
    assert again.json()["state"] == "validating"
    assert error_of(client.send(f"adapters/{adapter}/files/{CONFIG}", b"{}")) == "not_uploading"
    assert len(blob_store(adapter_id=adapter)) == 64


def test_parts_arrive_in_order_and_a_broken_upload_goes_on(ada: Customer):
    client = ada.client()
    adapter = create(client)
    content, path = CONTENT[WEIGHTS], f"adapters/{adapter}/files/{WEIGHTS}"
    total, half = len(content), len(content) // 2

    def part(first: int, last: int):
        return client.send(path, content[first:last], content_range=f"bytes {first}-{last - 1}/{total}")

    assert error_of(part(half, total)) == "range_mismatch"
    assert part(0, half).json()["received_bytes"] == half
    files = {
        row["name"]: row["received_bytes"]
        for row in client.call("get", f"adapters/{adapter}/files").json()["data"]
    }
    assert files == {CONFIG: 0, WEIGHTS: half}
    assert error_of(client.call("post", f"adapters/{adapter}/complete")) == "upload_incomplete"
    # The first part again, as after a lost answer: what stood behind it is sent anew.
    assert part(0, half).json()["received_bytes"] == half
    assert part(half, total).json()["received_bytes"] == total
    assert (upload_folder(adapter) / WEIGHTS).read_bytes() == content


def test_what_is_there_of_a_file_has_a_digest(ada: Customer):
    client = ada.client()
    adapter = create(client)
    content, path = CONTENT[WEIGHTS], f"adapters/{adapter}/files/{WEIGHTS}"
    half = len(content) // 2

    def there(there_bytes: int) -> dict[str, object]:
        digest = hashlib.sha256(content[:there_bytes]).hexdigest()
        return {"name": WEIGHTS, "size_bytes": len(content), "received_bytes": there_bytes, "sha256": digest}

    assert client.call("get", path).json() == there(0)
    client.send(path, content[:half], content_range=f"bytes 0-{half - 1}/{len(content)}")
    assert client.call("get", path).json() == there(half)
    with (upload_folder(adapter) / WEIGHTS).open("ab") as file:
        file.write(b"what somebody writes at this moment")
    assert client.call("get", path).json() == there(half)
    # After a power loss the disk may have less than was noted.
    (upload_folder(adapter) / WEIGHTS).write_bytes(content[:100])
    assert client.call("get", path).json() == there(100)
    assert error_of(client.call("get", f"adapters/{adapter}/files/README.md")) == "not_found"
    Adapter.objects.filter(id=adapter).update(state="ready")
    assert error_of(client.call("get", path)) == "not_uploading"


@pytest.mark.parametrize(
    "header",
    ["bytes 0-9/5", "bytes 5-2/10", "bytes a-b/c", "0-1/2", "bytes 0-0/99999999999999999", "bytes 0-3/5"],
)
def test_a_range_that_makes_no_sense_is_refused(ada: Customer, header: str):
    client = ada.client()
    adapter = create(client)
    reply = client.send(f"adapters/{adapter}/files/{CONFIG}", b"x", content_range=header)
    assert (reply.status_code, error_of(reply)) == (416, "range_mismatch")


def test_more_bytes_than_announced_are_refused(ada: Customer):
    client = ada.client()
    adapter = create(client)
    reply = client.send(f"adapters/{adapter}/files/{CONFIG}", CONTENT[CONFIG] + b" ")
    assert error_of(reply) == "range_mismatch"
    assert (upload_folder(adapter) / CONFIG).exists() is False


@pytest.mark.parametrize(
    ("claim", "code", "status"),
    [
        ({"name": "adapter_model.bin", "size_bytes": 5}, "pickle_refused", 400),
        ({"name": "training_args.pt", "size_bytes": 5}, "pickle_refused", 400),
        ({"name": "model.py", "size_bytes": 5}, "file_not_expected", 400),
        ({"name": "../adapter_config.json", "size_bytes": 5}, "file_not_expected", 400),
        ({"name": CONFIG, "size_bytes": 0}, "empty_file", 400),
        ({"name": CONFIG, "size_bytes": -1}, "empty_file", 400),
        ({"name": CONFIG, "size_bytes": 1024**2 + 1}, "file_too_large", 413),
        ({"name": WEIGHTS, "size_bytes": 2 * 1024**3 + 1}, "file_too_large", 413),
    ],
)
def test_claims_are_checked_before_any_byte(ada: Customer, claim: dict, code: str, status: int):
    body = {"name": "mine", "base_model": PUBLIC_BASE, "files": [claim]}
    reply = ada.client().call("post", "adapters", body)
    assert (reply.status_code, error_of(reply)) == (status, code)
    assert not Adapter.objects.exists()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": "No Good"}, "name_invalid"),
        ({"name": "-x"}, "name_invalid"),
        ({"name": "a/b"}, "name_invalid"),
        ({"base_model": "kindling/unknown"}, "model_not_found"),
        ({"base_model": ""}, "validation_failed"),
    ],
)
def test_an_adapter_needs_a_name_and_a_base(ada: Customer, change: dict, code: str):
    body = {"name": "mine", "base_model": PUBLIC_BASE, "files": []} | change
    assert error_of(ada.client().call("post", "adapters", body)) == code


def test_files_nobody_needs_are_left_out(ada: Customer):
    client = ada.client()
    adapter = create(client, files=CONTENT | {"README.md": b"", "tokenizer_config.json": b"{}"})
    files = client.call("get", f"adapters/{adapter}/files").json()["data"]
    assert [file["name"] for file in files] == [CONFIG, WEIGHTS]
    refused = client.send(f"adapters/{adapter}/files/tokenizer_config.json", b"{}")
    assert error_of(refused) == "file_not_expected"


def test_the_card_and_the_tokenizer_may_come_along(ada: Customer):
    client = ada.client()
    along = {"README.md": b"hello", "tokenizer.json": b"{}"}
    adapter = create(client, files=CONTENT | along)
    for name, content in {**along, **CONTENT}.items():
        assert client.send(f"adapters/{adapter}/files/{name}", content).status_code == 200
    assert client.call("post", f"adapters/{adapter}/complete").json()["state"] == "validating"
    assert (upload_folder(adapter) / "README.md").read_bytes() == b"hello"


def test_an_unfinished_upload_makes_way_and_a_finished_one_does_not(ada: Customer):
    client = ada.client()
    first = create(client)
    second = create(client)
    assert client.call("get", f"adapters/{first}").status_code == 404
    Adapter.objects.filter(id=second).update(state="ready")
    body = {"name": "mine", "base_model": PUBLIC_BASE}
    reply = client.call("post", "adapters", body)
    assert (reply.status_code, error_of(reply)) == (409, "adapter_exists")
    assert client.call("delete", f"adapters/{second}").status_code == 204
    assert client.call("post", "adapters", body).status_code == 201


def test_a_model_and_an_adapter_cannot_share_a_name(operator: Customer):
    body = {"name": "spark", "base_model": PUBLIC_BASE}
    assert error_of(operator.client().call("post", "adapters", body)) == "adapter_exists"


def test_a_wrong_base_is_refused_with_the_first_part(ada: Customer):
    """The header says it all: the weights themselves need not come up."""
    client = ada.client()
    content = CONTENT[WEIGHTS]
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    name = next(name for name in header if name.endswith("lora_A.weight"))
    header[name]["shape"].reverse()
    packed = json.dumps(header, separators=(",", ":")).encode().ljust(length)
    adapter = create(client)
    client.send(f"adapters/{adapter}/files/{CONFIG}", CONTENT[CONFIG])
    first = content[:8] + packed + b"\0" * 100
    reply = client.send(
        f"adapters/{adapter}/files/{WEIGHTS}", first, content_range=f"bytes 0-{len(first) - 1}/{len(content)}"
    )
    assert (reply.status_code, error_of(reply)) == (409, "adapter_rejected")
    assert reply.json()["error"]["param"] == "tensor_shapes"
    seen = client.call("get", f"adapters/{adapter}").json()
    assert (seen["state"], seen["error_code"]) == ("rejected", "tensor_shapes")
    report = client.call("get", f"adapters/{adapter}/report").json()
    assert any(finding["level"] == "fail" and finding["fix"] for finding in report["findings"])
    assert not upload_folder(adapter).exists()
    assert error_of(client.call("post", f"adapters/{adapter}/complete")) == "adapter_rejected"


def test_a_zip_brings_its_files(ada: Customer):
    client = ada.client()
    adapter = create(client, files={})
    packed = zip_of(
        {f"folder/{name}": content for name, content in CONTENT.items()} | {"folder/README.md": b"hi"}
    )
    reply = client.send(f"adapters/{adapter}/zip", packed, kind="application/zip")
    assert reply.status_code == 200, reply.content
    assert {file["name"]: file["received_bytes"] for file in reply.json()["files"]} == {
        CONFIG: len(CONTENT[CONFIG]),
        WEIGHTS: len(CONTENT[WEIGHTS]),
        "README.md": 2,
    }
    assert (upload_folder(adapter) / WEIGHTS).read_bytes() == CONTENT[WEIGHTS]
    assert client.call("post", f"adapters/{adapter}/complete").json()["state"] == "validating"


def lying_zip() -> bytes:
    """Claims small files in its list of contents and unpacks to large ones."""
    packed = bytearray(zip_of({CONFIG: CONTENT[CONFIG], WEIGHTS: bytes(3_000_000)}))
    at = packed.rfind(b"PK\x01\x02")
    struct.pack_into("<I", packed, at + 24, 5000)
    return bytes(packed)


def endless_list() -> bytes:
    packed = bytearray(zip_of({CONFIG: b"{}"}))
    at = packed.rfind(b"PK\x05\x06")
    struct.pack_into("<I", packed, at + 12, 0xFFFFFF00)
    return bytes(packed)


def unknown_list() -> bytes:
    packed = bytearray(zip_of({CONFIG: b"{}"}))
    struct.pack_into("<I", packed, packed.rfind(b"PK\x05\x06") + 12, 0xFFFFFFFF)
    return bytes(packed)


HOSTILE = {
    "unknown": (unknown_list, "zip_refused"),
    "bomb": (lambda: zip_of({CONFIG: b"{}", WEIGHTS: bytes(50_000_000)}), "zip_refused"),
    "lies": (lying_zip, "zip_refused"),
    "endless": (endless_list, "zip_refused"),
    "traversal": (lambda: zip_of({"../" + CONFIG: b"{}", WEIGHTS: b"x"}), "zip_refused"),
    "absolute": (lambda: zip_of({"/" + CONFIG: b"{}", WEIGHTS: b"x"}), "zip_refused"),
    "pickle": (lambda: zip_of({CONFIG: b"{}", "adapter_model.bin": b"\x80\x04."}), "pickle_refused"),
    "many": (lambda: zip_of({f"{n}/README.md": b"" for n in range(100)}), "zip_refused"),
    "twice": (lambda: zip_of({"a/" + CONFIG: b"{}", "b/" + CONFIG: b"{}", WEIGHTS: b"x"}), "zip_refused"),
    "no zip": (lambda: b"PK not really", "zip_refused"),
    "empty": (lambda: b"", "zip_refused"),
    "one file": (lambda: zip_of({CONFIG: b"{}"}), "zip_refused"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_zip_is_refused_and_leaves_nothing(ada: Customer, name: str):
    make, code = HOSTILE[name]
    client = ada.client()
    adapter = create(client, files={})
    reply = client.send(f"adapters/{adapter}/zip", make(), kind="application/zip")
    assert error_of(reply) == code, reply.content
    left = {path.name for path in upload_folder(adapter).iterdir() if path.stat().st_size}
    assert "upload.zip" not in left
    assert sum((upload_folder(adapter) / file).stat().st_size for file in left) < 10_000


def test_uploads_stay_below_home(ada: Customer):
    assert upload_folder("adp_x").is_relative_to(Path(django_settings.KINDLING_ENV.home))
