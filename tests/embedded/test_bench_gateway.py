"""The gateway's bench: its engine that costs nothing, its client, and the counts of a process."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import orjson
import pytest

from kindling_gateway import eventually
from kindling_platform.cli.forward import forward_argv
from kindling_platform.embedded.bench_gateway.load import Load, LoadError, Target, load_run, request_bytes
from kindling_platform.embedded.bench_gateway.meter import cpu_s, rss_mb
from kindling_platform.embedded.bench_gateway.peers import Peer, litellm_python, portkey_script
from kindling_platform.embedded.bench_gateway.subject import Subject
from kindling_platform.embedded.bench_gateway.upstream import Upstream
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.ports import hold_port, is_answering

PLAIN, STREAM = Load("plain", 4, False), Load("stream", 30, True)


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    hold = hold_port()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    serving = asyncio.run_coroutine_threadsafe(Upstream().serve(hold.port), loop)
    eventually(lambda: is_answering(hold.port))
    yield Target(hold.port, "bench", "none")
    serving.cancel()
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)
    loop.close()
    hold.release()


@pytest.mark.parametrize("load", [PLAIN, STREAM], ids=["plain", "stream"])
def test_every_answer_is_read_to_its_end(target: Target, load: Load):
    took_s = load_run(target, load, connections=3, requests=10)
    assert len(took_s) == 10
    assert min(took_s) > 0


def test_clients_that_leave_are_in_no_figure(target: Target):
    assert load_run(target, STREAM, connections=2, requests=6, leaving=1.0) == []
    assert len(load_run(target, STREAM, connections=2, requests=6)) == 6


def test_a_stream_waits_at_its_grant(target: Target):
    url = f"http://127.0.0.1:{target.port}"
    body = orjson.dumps({"max_tokens": 120, "stream": True})
    headers = {"x-kindling-request": "one", "x-kindling-grant": "100"}
    with urlopen(Request(f"{url}/v1/chat/completions", body, headers), timeout=60) as reply:
        seen = b""
        while b": grant 36" not in seen:
            seen += reply.readline()
        grant = Request(f"{url}/requests/one/grant", orjson.dumps({"tokens": 200}))
        with urlopen(grant, timeout=60) as granted:
            assert granted.status == 200
        seen += reply.read()
    assert b'"word 120 "' in seen
    assert b'"completion_tokens":120' in seen


def test_a_refusal_is_an_error_with_its_words():
    hold = hold_port()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 Too Many\r\ncontent-length: 5\r\n\r\nlater")

    async def serve() -> None:
        server = await asyncio.start_server(refuse, "127.0.0.1", hold.port)
        async with server:
            with pytest.raises(LoadError, match="later"):
                await asyncio.to_thread(
                    load_run, Target(hold.port, "m", "k"), PLAIN, connections=1, requests=1
                )

    asyncio.run(serve())
    hold.release()


def test_a_peer_is_told_by_header_where_to_go():
    asked = request_bytes(Target(1, "m", "k", ("x-one: 1", "x-two: 2")), PLAIN)
    head, _, body = asked.partition(b"\r\n\r\n")
    assert head.endswith(b"\r\nx-one: 1\r\nx-two: 2")
    assert f"content-length: {len(body)}\r\n".encode() in head


def test_a_peer_that_is_not_there_is_installed_only_when_asked_for(tmp_path: Path):
    home = Home(tmp_path)
    assert (litellm_python(home, install=False), portkey_script(home, install=False)) == (None, None)
    assert list(tmp_path.iterdir()) == []


def test_a_peer_stands_still_unless_it_is_asked(tmp_path: Path):
    hold, log = hold_port(), tmp_path / "log"
    log.touch()
    command = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(hold.port))
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            peer = Peer(Subject(process.pid, Target(hold.port, "m", "k")), process, log)
            peer.rest()
            eventually(lambda: state_of(process.pid) == "T")
            with (
                peer.awake() as subject,
                urlopen(f"http://127.0.0.1:{subject.target.port}", timeout=60) as reply,
            ):
                assert reply.status == 200
            eventually(lambda: state_of(process.pid) == "T")
        finally:
            process.kill()
            hold.release()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_process_is_known_by_what_it_has_used():
    before = cpu_s(os.getpid())
    while cpu_s(os.getpid()) - before < 0.02:
        sum(range(10_000))
    assert 10 < rss_mb(os.getpid()) < 100_000


def test_the_command_goes_to_the_embedded_start():
    argv = forward_argv(["bench", "gateway", "--quick"])
    assert argv is not None
    assert argv[1:] == ["-m", "kindling_platform.embedded", "bench", "gateway", "--quick"]
