"""While somebody uploads rubbish and deletes what is in use, the tokens of everybody else keep flowing."""

import json
import shutil
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from kindling_engine.starter import ADAPTER_PATHS
from kindling_stack import Stack
from kindling_tenant import ADAPTER_FILES, Tenant, poll

pytestmark = pytest.mark.stack


@dataclass(slots=True)
class Flow:
    """One stream after another; ``parts`` counts what has arrived, ``failed`` says what went wrong."""

    parts: int = 0
    answers: int = 0
    failed: list[str] = field(default_factory=list)

    def run(self, url: str, key: str, model: str, stop: threading.Event) -> None:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "Tell me a story."}],
            "max_tokens": 64,
            "stream": True,
        }
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as http:
            while not stop.is_set():
                with http.stream("POST", "/v1/chat/completions", json=body) as reply:
                    lines = []
                    for line in reply.iter_lines():
                        lines.append(line)
                        self.parts += line.startswith("data: {")
                if reply.status_code != 200 or "data: [DONE]" not in lines:
                    self.failed.append(f"{reply.status_code} {lines[-3:]}")
                self.answers += 1


@contextmanager
def flowing(stack: Stack, tenant: Tenant, model: str) -> Iterator[Flow]:
    """Streams of a model, until the block ends."""
    flow, stop = Flow(), threading.Event()
    thread = threading.Thread(target=flow.run, args=(stack.url, tenant.key, model, stop))
    thread.start()
    try:
        poll(lambda: flow.parts, bool)
        yield flow
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def endless_header(folder: Path) -> None:
    body = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + body[8:])


def not_a_number(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + struct.pack("<f", float("nan")))


def endless_pattern(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_modules": "(a+)+$" * 20}))


def twice_the_same_name(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.write_text(path.read_text().rstrip().removesuffix("}") + ', "r": 8, "r": 16}')


def nothing_at_all(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def spoilt_upload(tenant: Tenant, name: str, folder: Path) -> None:
    """Send everything, whatever the answers, and wait until the adapter is refused."""
    files = [{"name": file, "size_bytes": (folder / file).stat().st_size} for file in ADAPTER_FILES]
    made = tenant.api(
        "POST", "/api/v1/adapters", {"name": name, "base_model": "kindling/spark", "files": files}
    )
    headers = {"Authorization": f"Bearer {tenant.key}", "Content-Type": "application/octet-stream"}
    path = f"/api/v1/adapters/{made['id']}"
    for file in ADAPTER_FILES:
        tenant.http.put(f"{path}/files/{file}", content=(folder / file).read_bytes(), headers=headers)
    tenant.http.post(f"{path}/complete", headers=headers)
    seen = poll(lambda: tenant.api("GET", path), lambda row: row["state"] in {"ready", "rejected"})
    assert seen["state"] == "rejected", seen
    assert seen["error_code"]


def test_spoilt_uploads_do_not_stop_anybodys_tokens(stack: Stack, tmp_path: Path):
    reader, vandal = stack.sign_up("reader"), stack.sign_up("vandal")
    with flowing(stack, reader, "kindling/spark") as flow:
        for spoil in (endless_header, not_a_number, endless_pattern, twice_the_same_name, nothing_at_all):
            folder = Path(shutil.copytree(ADAPTER_PATHS["intent"], tmp_path / spoil.__name__))
            spoil(folder)
            before = flow.parts
            spoilt_upload(vandal, spoil.__name__.replace("_", "-"), folder)
            poll(lambda: flow.parts, lambda parts, before=before: parts > before)
    assert flow.failed == []
    assert flow.answers > 0


def test_deleting_an_adapter_in_use_ends_its_own_requests_and_nobody_elses(stack: Stack):
    reader, owner = stack.sign_up("reader-too"), stack.sign_up("owner")
    adapter = owner.upload("mine", ADAPTER_PATHS["voice"])
    with (
        flowing(stack, reader, "kindling/spark") as others,
        flowing(stack, owner, f"{owner.slug}/mine") as own,
    ):
        owner.api("DELETE", f"/api/v1/adapters/{adapter['id']}")
        # What was under way ends well or not; what comes later is not found.
        poll(lambda: list(own.failed), lambda failed: any(text.startswith("404") for text in failed))
        before = others.parts
        poll(lambda: others.parts, lambda parts: parts > before)
    assert others.failed == []
