"""The gateway as a process of its own: it stops in time although streams are open, and says so to them."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kindling_gateway import chat, eventually


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


@pytest.fixture
def port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


@pytest.fixture
def process(scene, listener: socket.socket, port: int, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    script = (
        "import kindling_platform.config.asgi_gateway as module, uvicorn\n"
        "application = module.asgi_application(module.create_app(module.load_env(), grace_s=0.3))\n"
        f"uvicorn.run(application, fd={listener.fileno()}, access_log=False)\n"
    )
    # What is kept for the organisation must not find its way into lines either.
    scene.world.execute("INSERT INTO requestlog_logsetting VALUES (%s, 7)", scene.customer.id)
    log = (tmp_path / "log").open("wb")
    started = subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ
        | {
            "KINDLING_DATABASE_URL": scene.world.url,
            "KINDLING_HOME": str(scene.world.home),
            "KINDLING_LOG_LEVEL": "DEBUG",
        },
        pass_fds=(listener.fileno(),),
        stderr=log,
        stdout=log,
    )
    eventually(lambda: is_up(port), seconds=60)
    yield started
    started.kill()
    started.wait()
    log.close()


def is_up(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=60).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_open_streams_end_with_an_error_event(scene, process, port: int, tmp_path: Path, number: int):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 4000, 0.03
    headers = {"Authorization": f"Bearer {scene.key}"}
    body = chat(stream=True, max_tokens=4000)
    with httpx.stream(
        "POST", f"http://127.0.0.1:{port}/v1/chat/completions", json=body, headers=headers, timeout=60
    ) as reply:
        lines = reply.iter_lines()
        next(lines)
        process.send_signal(number)
        last = [line for line in lines if line][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "server_shutdown"
    process.wait(60)  # the answer would take longer
    eventually(lambda: scene.engine.records)
    assert scene.engine.records[0]["finish"] == "cancelled"


def test_nothing_secret_is_logged(scene, process, port: int, tmp_path: Path):
    headers = {"Authorization": f"Bearer {scene.key}"}
    body = chat(messages=[{"role": "user", "content": "my-private-words"}])
    reply = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, headers=headers, timeout=60)
    assert reply.status_code == 200
    kept = "SELECT 1 FROM requestlog_loggedrequest WHERE request_id = %s"
    eventually(lambda: scene.world.rows(kept, reply.headers["x-request-id"]))
    said = eventually(lambda: (tmp_path / "log").read_text() if reply.headers["x-request-id"] in
                      (tmp_path / "log").read_text() else "")  # fmt: skip
    line = next(line for line in said.splitlines() if reply.headers["x-request-id"] in line)
    facts = json.loads(line)
    assert (facts["status"], facts["completion_tokens"], facts["model"]) == (200, 8, "kindling/words")
    for secret in (scene.key, "my-private-words", "w1 "):
        assert secret not in said


def test_no_ending_of_a_request_puts_words_or_keys_into_the_log(scene, process, port: int, tmp_path: Path):
    said = tmp_path / "log"
    private = [{"role": "user", "content": "my-private-words"}]
    wrong_key = scene.key[:-3] + "abc"
    url, key = f"http://127.0.0.1:{port}/v1", {"Authorization": f"Bearer {scene.key}"}
    session = {"x-session-affinity": "my-private-session"}

    def send(path: str, *, headers: dict[str, str] = key, status: int, **sent) -> str:
        reply = httpx.post(f"{url}/{path}", headers=headers, **sent, timeout=60)
        assert reply.status_code == status, reply.text
        return str(reply.headers["x-request-id"])

    ids = [
        send("chat/completions", status=200, json=chat(messages=private, stream=True), headers=key | session),
        send(
            "chat/completions",
            status=401,
            json=chat(messages=private),
            headers={"Authorization": f"Bearer {wrong_key}"},
        ),
        send("chat/completions", status=400, content=b'{"messages": "my-private-words'),
        send(
            "messages",
            status=400,
            json={"model": "kindling/words", "messages": private, "system": 5, "max_tokens": 4},
        ),
        send(
            "responses",
            status=200,
            json={"model": "kindling/words", "input": "my-private-words", "store": False},
        ),
    ]
    scene.engine.behaviour.fail_status = 500
    ids.append(send("chat/completions", status=502, json=chat(messages=private)))
    scene.engine.behaviour.fail_status, scene.engine.behaviour.cut_before_first = 0, 9
    ids.append(send("chat/completions", status=502, json=chat(messages=private)))
    text = eventually(lambda: all(one in said.read_text() for one in ids) and said.read_text())
    for secret in (scene.key, wrong_key, "my-private", "w1 "):
        assert secret not in text


def test_one_id_names_a_request_at_the_client_the_engine_and_in_the_log(
    scene, process, port: int, tmp_path: Path
):
    headers = {"Authorization": f"Bearer {scene.key}"}
    reply = httpx.post(
        f"http://127.0.0.1:{port}/v1/chat/completions", json=chat(), headers=headers, timeout=60
    )
    request_id = reply.headers["x-request-id"]
    assert [got.id for got in scene.engine.received] == [request_id]
    assert [record["request_id"] for record in scene.engine.records] == [request_id]
    lines = eventually(
        lambda: [one for one in (tmp_path / "log").read_text().splitlines() if request_id in one]
    )
    assert "request" in [json.loads(line)["event"] for line in lines]
