"""Every way a request can end over the real front and core, and the record that each leaves in the usage log."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from kindling_engine.protocol.usage_log import UsageRecord
from kindling_engine_process import EngineProcess, ask, wait_until

# Longer than a client that is held up takes to leave.
LONG = {"max_tokens": 900, "ignore_eos": True, "n": 8}
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path_factory.mktemp("engine")) as started:
        yield started


@dataclass(frozen=True)
class Ending:
    """What a client asks for, and what the record must say of it."""

    finish: str
    body: dict[str, Any]
    grant: int | None = None
    tokens: int | None = None


ENDINGS = {
    "all tokens asked for": Ending("length", {"max_tokens": 5, "ignore_eos": True}, tokens=5),
    "the model's own end": Ending("stop", {"messages": STORY, "max_tokens": 400}),
    "a stop string": Ending("stop", {"messages": STORY, "stop": "the", "max_tokens": 400}),
    "a stop token": Ending(
        "stop", {"stop_token_ids": [300], "logit_bias": {"300": 100}, "max_tokens": 9}, tokens=1
    ),
    "a grant refused": Ending("grant_refused", {"max_tokens": 300, "ignore_eos": True}, grant=12, tokens=12),
    "three choices": Ending("length", {"max_tokens": 4, "ignore_eos": True, "n": 3}, tokens=12),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ENDINGS)
def test_the_record_says_what_the_client_was_told(engine: EngineProcess, name: str, stream: bool):
    ending = ENDINGS[name]
    grant = {} if ending.grant is None else {"grant": str(ending.grant)}
    before = len(engine.records())
    reply = engine.chat(headers=grant, stream=stream, **ending.body)
    usage = _usage(reply, stream)
    wait_until(lambda: len(engine.records()) > before)
    (record,) = engine.records()[before:]
    assert (record.finish, record.billable) == (ending.finish, True)
    assert record.completion_tokens == usage["completion_tokens"] > 0
    assert record.prompt_tokens == usage["prompt_tokens"] > 0
    assert record.cached_tokens == usage["prompt_tokens_details"]["cached_tokens"]
    assert ending.tokens in (None, record.completion_tokens)
    assert record.started_ms <= (record.first_token_ms or 0) <= record.finished_ms


def test_a_grant_extended_in_time_is_used_to_its_end(engine: EngineProcess):
    before, headers = len(engine.records()), engine.headers(grant="10")
    body = ask(stream=True, max_tokens=40, ignore_eos=True)
    url = f"{engine.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as reply:
        for line in reply.iter_lines():
            if line.startswith(": grant"):
                grant = f"{engine.url}/requests/{headers['x-kindling-request']}/grant"
                assert httpx.post(grant, json={"tokens": 40}, timeout=60).json() == {"tokens": 40}
    wait_until(lambda: len(engine.records()) > before)
    (record,) = engine.records()[before:]
    assert (record.finish, record.completion_tokens) == ("length", 40)


def test_a_client_that_leaves_pays_for_what_was_made(engine: EngineProcess):
    before = len(engine.records())
    body = ask(stream=True, **LONG)
    url = f"{engine.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=engine.headers(), timeout=60) as reply:
        for line in reply.iter_lines():
            if '"content":"' in line:
                break
    (record,) = _new_records(engine, before)
    assert (record.finish, record.billable) == ("cancelled", True)
    assert 0 < record.completion_tokens < 8 * 900


def test_an_adapter_that_cannot_be_loaded_costs_nothing(engine: EngineProcess):
    before = len(engine.records())
    reply = engine.chat(headers={"adapter": "0" * 64}, max_tokens=4)
    assert reply.status_code == 412
    (record,) = _new_records(engine, before)
    assert (record.finish, record.billable, record.completion_tokens) == ("error", False, 0)


@pytest.mark.parametrize("whose", ["core", "front"])
def test_a_process_killed_leaves_an_error_or_nothing(tmp_path: Path, whose: str):
    """A dead core is a failure of ours on record; a dead front wrote nothing, so nothing is billed."""
    with EngineProcess(tmp_path) as engine:
        done = engine.chat(max_tokens=3, ignore_eos=True).headers["x-request-id"]
        stream = threading.Thread(target=_stream_until_cut, args=(engine, started := threading.Event()))
        stream.start()
        assert started.wait(60)
        os.kill(engine.core_pid if whose == "core" else engine.pid, signal.SIGKILL)
        engine.wait_exit()
        stream.join(60)
        first, *others = engine.records()
    assert (first.request_id, first.finish) == (done, "length")
    assert [(one.finish, one.billable) for one in others] == ([("error", False)] if whose == "core" else [])


def _stream_until_cut(engine: EngineProcess, started: threading.Event) -> None:
    body = ask(stream=True, **LONG)
    url = f"{engine.url}/v1/chat/completions"
    try:
        with httpx.stream("POST", url, json=body, headers=engine.headers(), timeout=60) as reply:
            for _ in reply.iter_lines():
                started.set()
    except httpx.HTTPError:
        return


def _usage(reply: httpx.Response, stream: bool) -> dict[str, Any]:
    assert reply.status_code == 200, reply.text
    if not stream:
        return reply.json()["usage"]
    assert reply.text.endswith("data: [DONE]\n\n")
    return json.loads(reply.text.split("data: ")[-2])["usage"]


def _new_records(engine: EngineProcess, before: int) -> list[UsageRecord]:
    wait_until(lambda: len(engine.records()) > before)
    time.sleep(0.1)  # a second record would be a fault
    return engine.records()[before:]
