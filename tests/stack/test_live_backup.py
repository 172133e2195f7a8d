"""A backup taken while everybody writes: what it becomes elsewhere has sound books, and goes on from there."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from kindling_books import Books, assert_books_agree, read_books_if_open
from kindling_load import Answer, ask_stream, ask_whole
from kindling_stack import Stack, started_stack
from kindling_tenant import poll

pytestmark = [pytest.mark.stack, pytest.mark.long, pytest.mark.timeout(400)]
CLIENTS = 4
BEFORE = 12


async def backup_under_load(stack: Stack, key: str, file: Path) -> tuple[list[Answer], list[Answer]]:
    """The answers that were whole before the backup began, and all there were when it had ended."""
    answers: list[Answer] = []
    stop = asyncio.Event()
    headers = {"Authorization": f"Bearer {key}"}

    async def keep_asking(http: httpx.AsyncClient, number: int) -> None:
        while not stop.is_set():
            number += 1
            answers.append(await (ask_stream if number % 2 else ask_whole)(http, max_tokens=16))

    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as http:
        load = [asyncio.create_task(keep_asking(http, number)) for number in range(CLIENTS)]
        async with asyncio.timeout(60):
            while sum(answer.complete for answer in answers) < BEFORE:
                await asyncio.sleep(0.05)
        before = [answer for answer in answers if answer.complete]
        done = await asyncio.to_thread(stack.cli, "backup", "--output", str(file))
        stop.set()
        await asyncio.gather(*load)
    assert done.returncode == 0, done.stderr
    return before, [answer for answer in answers if answer.complete]


def books_at_rest(stack: Stack, org_id: str, wanted: set[str]) -> Books:
    found = poll(
        lambda: read_books_if_open(stack, org_id),
        lambda books: (
            books is not None and wanted <= set(books.events) and set(books.events) == set(books.logged)
        ),
        seconds=60,
    )
    assert found is not None
    return found


def test_a_backup_beside_a_writing_stack_is_an_installation_with_sound_books(tmp_path: Path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    file = tmp_path / "live.backup"
    with started_stack(tmp_path / "first") as stack:
        tenant = stack.sign_up("writer")
        org_id = tenant.api("GET", "/api/v1/me")["organisation"]["id"]
        before, whole = asyncio.run(backup_under_load(stack, tenant.key, file))
        assert len(whole) > len(before) >= BEFORE
        original = books_at_rest(stack, org_id, {answer.request_id for answer in whole})
        assert_books_agree(original)
        env = stack.env
    restored = subprocess.run(
        [sys.executable, "-m", "kindling_platform.cli", "restore", str(file)],
        env=env | {"KINDLING_HOME": str(tmp_path / "second" / "home")},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert restored.returncode == 0, restored.stderr
    with started_stack(tmp_path / "second") as again:
        books = books_at_rest(again, org_id, {answer.request_id for answer in before})
        assert_books_agree(books)
        assert set(books.events) <= set(original.events)
        for request_id, event in books.events.items():
            assert event["cost_picousd"] == original.events[request_id]["cost_picousd"]
        reply = httpx.post(
            f"{again.url}/v1/chat/completions",
            json={
                "model": "kindling/spark",
                "messages": [{"role": "user", "content": "Hi"}],
                "max_tokens": 4,
            },
            headers={"Authorization": f"Bearer {tenant.key}"},
            timeout=60,
        )
        assert reply.status_code == 200, json.dumps(reply.json())
        after = books_at_rest(again, org_id, {reply.headers["x-request-id"]})
        assert_books_agree(after)
        assert len(after.events) == len(books.events) + 1
