"""Each process is killed once under load; nothing that was answered is missing or doubled."""

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kindling_books import assert_books_agree, read_books_if_open
from kindling_load import Answer, ask_stream, ask_whole
from kindling_pids import descendants, is_alive
from kindling_stack import Stack, started_stack
from kindling_tenant import Tenant, poll

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
VICTIMS = ["engine beat", "web stripe", "worker", "agent", "valkey", "postgres"]
CHILDREN = 7
CLIENTS = 6
RECOVERY_S = 60


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with started_stack(tmp_path_factory.mktemp("kills")) as running:
        yield running


def child_pids(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += [int(child) for child in (task / "children").read_text().split()]
    return children


def victim_pid(stack: Stack, name: str) -> int:
    if name != "engine":
        return stack.pid(name)
    engines = child_pids(stack.pid("agent"))
    assert engines, "the agent has no engine"
    return engines[0]


async def keep_asking(http: httpx.AsyncClient, answers: list[Answer], stop: asyncio.Event) -> None:
    number = 0
    while not stop.is_set():
        number += 1
        ask = ask_stream if number % 2 else ask_whole
        answer = await ask(http, max_tokens=24)
        answers.append(answer)
        if not answer.complete:
            await asyncio.sleep(0.1)


async def wait_for_answer(http: httpx.AsyncClient) -> Answer:
    async with asyncio.timeout(RECOVERY_S):
        while True:
            answer = await ask_whole(http, max_tokens=4)
            if answer.complete:
                return answer
            await asyncio.sleep(0.2)


async def kill_under_load(stack: Stack, tenant: Tenant, victims: list[str]) -> list[Answer]:
    answers: list[Answer] = []
    stop = asyncio.Event()
    headers = {"Authorization": f"Bearer {tenant.key}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as http:
        answers.append(await wait_for_answer(http))
        load = [asyncio.create_task(keep_asking(http, answers, stop)) for _ in range(CLIENTS)]
        await asyncio.sleep(0.7)
        before = {victim: victim_pid(stack, victim) for victim in victims}
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.7)
        answers.append(await wait_for_answer(http))
        stop.set()
        await asyncio.gather(*load)
    for victim, pid in before.items():
        poll(
            lambda victim=victim: victim_pid_or_none(stack, victim),
            lambda now, pid=pid: now not in (None, pid),
            seconds=RECOVERY_S,
        )
    return answers


def victim_pid_or_none(stack: Stack, victim: str) -> int | None:
    try:
        pid = victim_pid(stack, victim)
        os.kill(pid, 0)
    except (AssertionError, FileNotFoundError, ProcessLookupError):
        return None
    return pid


@pytest.mark.parametrize("victims", VICTIMS)
def test_a_killed_process_loses_and_doubles_nothing(own_stack: Stack, victims: str):
    tenant = own_stack.sign_up(f"killed-{victims.replace(' ', '-')}")
    org_id = tenant.api("GET", "/api/v1/me")["organisation"]["id"]

    answers = asyncio.run(kill_under_load(own_stack, tenant, victims.split()))

    complete = {answer.request_id: answer for answer in answers if answer.complete}
    assert len(complete) > CLIENTS
    books = poll(
        lambda: read_books_if_open(own_stack, org_id),
        lambda seen: (
            seen is not None and set(complete) <= set(seen.events) and set(seen.events) == set(seen.logged)
        ),
        seconds=RECOVERY_S,
    )
    assert books is not None
    assert_books_agree(books)
    for request_id, answer in complete.items():
        assert books.events[request_id]["completion_tokens"] == answer.completion_tokens
    assert tenant.balance_picousd() == books.balance_picousd


def test_a_killed_supervisor_takes_all_along_and_the_next_start_finds_what_was_committed(own_stack: Stack):
    """The last one: it ends the stack of the others."""
    tenant, api_key = own_stack.sign_up("after-kills"), own_stack.api_key
    below = descendants(own_stack.process.pid)
    assert len(below) > CHILDREN
    own_stack.process.kill()
    own_stack.process.wait()
    poll(lambda: [pid for pid in below if is_alive(pid)], lambda left: not left)
    with started_stack(own_stack.home.parent) as again:
        assert again.api_key == api_key
        said = again.log.read_text()
        assert re.search(r"Operator .*reset-operator", said), said
        me = httpx.get(
            f"{again.url}/api/v1/me", headers={"Authorization": f"Bearer {tenant.key}"}, timeout=60
        )
        assert me.json()["organisation"]["slug"] == tenant.slug
        below = descendants(again.process.pid)
        assert "Stopped" in again.cli("down").stdout
        assert again.process.wait(60) == 0
        assert not any(is_alive(pid) for pid in below)
        assert not (again.home / "run/state.json").exists()
        assert "Nothing runs" in again.cli("down").stdout
