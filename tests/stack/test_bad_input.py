"""What a careless or hostile customer sends: a clear error with a stable code, nothing stored half."""

import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kindling_engine.starter import ADAPTER_PATHS
from kindling_stack import Stack
from kindling_tenant import ADAPTER_FILES, Tenant, poll

pytestmark = pytest.mark.stack
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def tenant(stack: Stack) -> Iterator[Tenant]:
    someone = stack.sign_up("careless")
    yield someone
    someone.http.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ADAPTER_PATHS["intent"], tmp_path / "adapter"))


def wrong_base(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    header_size = struct.unpack("<Q", (folder / "adapter_model.safetensors").read_bytes()[:8])[0]
    body = (folder / "adapter_model.safetensors").read_bytes()
    header = json.loads(body[8 : 8 + header_size])
    first = next(name for name in header if name.endswith("lora_A.weight"))
    rank, width = header[first]["shape"]
    header[first]["shape"] = [width, rank]  # as many bytes, another model's shape
    packed = json.dumps(header).encode().ljust(header_size)
    (folder / "adapter_model.safetensors").write_bytes(
        struct.pack("<Q", len(packed)) + packed + body[8 + header_size :]
    )
    (folder / "adapter_config.json").write_text(json.dumps(config))


def five_gigabyte_header(folder: Path) -> None:
    body = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", 5 * 1024**3) + body[8:])


def not_a_number(folder: Path) -> None:
    body = bytearray((folder / "adapter_model.safetensors").read_bytes())
    body[-4:] = struct.pack("<f", float("nan"))
    (folder / "adapter_model.safetensors").write_bytes(bytes(body))


def not_json(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{rank: 8")


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (wrong_base, "tensor_shapes"),
        (five_gigabyte_header, "safetensors_header"),
        (not_a_number, "values"),
        (not_json, "config_json"),
    ],
)
def test_a_spoilt_adapter_is_rejected_with_a_reason_and_a_fix(
    tenant: Tenant, folder: Path, spoil: Callable[[Path], None], check: str
):
    spoil(folder)
    files = [{"name": name, "size_bytes": (folder / name).stat().st_size} for name in ADAPTER_FILES]
    made = create(tenant, f"spoilt-{check.replace('_', '-')}", files)
    refused: dict[str, Any] | None = None
    for name in ADAPTER_FILES:
        put = put_file(tenant, made["id"], name, (folder / name).read_bytes())
        if put.status_code >= 400:  # the header check speaks before all bytes are up
            refused = put.json()["error"]
            break
    if refused is None:
        tenant.api("POST", f"/api/v1/adapters/{made['id']}/complete")
    adapter = poll(
        lambda: tenant.api("GET", f"/api/v1/adapters/{made['id']}"), lambda seen: seen["state"] == "rejected"
    )
    failed = {
        finding["check"]: finding for finding in adapter["report"]["findings"] if finding["level"] == "fail"
    }
    assert check in failed
    assert failed[check]["message"]
    assert failed[check]["fix"]


def create(tenant: Tenant, name: str, files: list[dict[str, Any]]) -> dict[str, Any]:
    body = {"name": name, "base_model": "kindling/spark", "files": files}
    return dict(tenant.api("POST", "/api/v1/adapters", body))


def put_file(
    tenant: Tenant, adapter_id: str, name: str, content: bytes, kind: str = "files/"
) -> httpx.Response:
    path = f"/api/v1/adapters/{adapter_id}/{kind}{name}"
    return tenant.http.put(
        path,
        content=content,
        headers={"Authorization": f"Bearer {tenant.key}", "Content-Type": "application/octet-stream"},
    )


def zip_of(entries: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": bytes(400 * MEGABYTE)}, "zip_refused"),
        ({"adapter_config.json": b"{}", "adapter_model.bin": b"\x80\x04."}, "pickle_refused"),
        ({"../adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}, "zip_refused"),
    ],
    ids=["bomb", "pickle", "traversal"],
)
def test_a_hostile_zip_is_refused(tenant: Tenant, entries: dict[str, bytes], code: str, request):
    made = create(tenant, f"zip-{request.node.callspec.id}", [])
    reply = put_file(tenant, made["id"], "", zip_of(entries), kind="zip")
    assert reply.status_code in {400, 413}
    assert reply.json()["error"]["code"] == code


def test_a_pickle_is_refused_by_its_name(tenant: Tenant):
    body = {
        "name": "pickled",
        "base_model": "kindling/spark",
        "files": [{"name": "adapter_model.bin", "size_bytes": 10}],
    }
    refused = tenant.api("POST", "/api/v1/adapters", body, expect=400)
    assert refused["error"]["code"] == "pickle_refused"


def test_an_empty_file_is_refused(tenant: Tenant):
    body = {
        "name": "empty",
        "base_model": "kindling/spark",
        "files": [{"name": "adapter_model.safetensors", "size_bytes": 0}],
    }
    refused = tenant.api("POST", "/api/v1/adapters", body, expect=400)
    assert refused["error"]["code"] == "empty_file"


def chat(stack: Stack, key: str, **request: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return httpx.post(f"{stack.url}/v1/chat/completions", headers=headers, timeout=60, **request)


ASK = {"model": "kindling/spark", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}


@pytest.mark.parametrize(
    "body", [b"{", b'{"model": "\xff"}', b"[1]", b"[" * 100_000, b'{"model": NaN}', b""], ids=range(6)
)
def test_malformed_json_is_400(stack: Stack, tenant: Tenant, body: bytes):
    reply = chat(stack, tenant.key, content=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] in {"invalid_json", "missing_field", "invalid_value"}


def test_a_hundred_megabytes_are_413_and_the_neighbours_go_on(stack: Stack, tenant: Tenant):
    def stream() -> Iterator[bytes]:
        yield b'{"model": "'
        for _ in range(100):
            yield b"x" * MEGABYTE

    try:
        reply = chat(stack, tenant.key, content=stream())
    except httpx.HTTPError:  # the server may hang up before all of it was sent
        reply = chat(stack, tenant.key, content=b"x" * 9 * MEGABYTE)
    assert reply.status_code == 413
    assert reply.json()["error"]["code"] == "request_too_large"
    assert chat(stack, tenant.key, json=ASK).status_code == 200


def test_a_revoked_key_is_refused_soon(stack: Stack, tenant: Tenant):
    made = tenant.api("POST", "/api/v1/keys", {"name": "short-lived", "scopes": ["inference"]})
    assert chat(stack, made["key"], json=ASK).status_code == 200
    tenant.api("DELETE", f"/api/v1/keys/{made['id']}")
    reply = poll(
        lambda: chat(stack, made["key"], json=ASK),
        lambda seen: seen.status_code == 401,
        every=0.05,
    )
    assert reply.json()["error"]["code"] == "key_revoked"


def test_another_organisations_objects_do_not_exist(stack: Stack, tenant: Tenant):
    other = stack.sign_up("nosy")
    mine = create(tenant, "private", [{"name": "adapter_config.json", "size_bytes": 10}])
    for method, path in (("GET", ""), ("GET", "/report"), ("POST", "/complete"), ("DELETE", "")):
        other.api(method, f"/api/v1/adapters/{mine['id']}{path}", expect=404)
