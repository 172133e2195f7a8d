"""The gateway as a process of its own: it stops in time although streams are open, and says so to them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kindling_gateway import chat, eventually


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def process(scene, port: int, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    script = (
        "import kindling_platform.config.asgi_gateway as module, uvicorn\n"
        "application = module.asgi_application(module.create_app(module.load_env(), grace_s=0.3))\n"
        f"uvicorn.run(application, port={port}, access_log=False)\n"
    )
    log = (tmp_path / "log").open("wb")
    started = subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"KINDLING_DATABASE_URL": scene.world.url},
        stderr=log,
        stdout=log,
    )
    eventually(lambda: is_up(port), seconds=20)
    yield started
    started.kill()
    started.wait()
    log.close()


def is_up(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_open_streams_end_with_an_error_event(scene, process, port: int, tmp_path: Path, number: int):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 4000, 0.02
    headers = {"Authorization": f"Bearer {scene.key}"}
    body = chat(stream=True, max_tokens=4000)
    with httpx.stream(
        "POST", f"http://127.0.0.1:{port}/v1/chat/completions", json=body, headers=headers
    ) as reply:
        lines = reply.iter_lines()
        next(lines)
        process.send_signal(number)
        asked_at = time.monotonic()
        last = [line for line in lines if line][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "server_shutdown"
    process.wait(5)
    assert time.monotonic() - asked_at < 3
    eventually(lambda: scene.engine.records)
    assert scene.engine.records[0]["finish"] == "cancelled"


def test_nothing_secret_is_logged(scene, process, port: int, tmp_path: Path):
    headers = {"Authorization": f"Bearer {scene.key}"}
    body = chat(messages=[{"role": "user", "content": "my-private-words"}])
    reply = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, headers=headers)
    assert reply.status_code == 200
    said = eventually(lambda: (tmp_path / "log").read_text() if reply.headers["x-request-id"] in
                      (tmp_path / "log").read_text() else "")  # fmt: skip
    line = next(line for line in said.splitlines() if reply.headers["x-request-id"] in line)
    facts = json.loads(line)
    assert (facts["status"], facts["completion_tokens"], facts["model"]) == (200, 8, "kindling/words")
    for secret in (scene.key, "my-private-words", "w1 "):
        assert secret not in said
