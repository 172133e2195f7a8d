"""The disk runs full under load: requests are refused before its last megabytes, nothing is lost when it is full."""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kindling_books import assert_books_agree, read_books_if_open
from kindling_load import Answer, ask_stream, ask_whole
from kindling_stack import Stack, started_stack
from kindling_tenant import poll

pytestmark = [
    pytest.mark.stack,
    pytest.mark.long,
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk"),
]
DISK_MB, SPARE_MB = 900, 40
CLIENTS = 4
RECOVERY_S = 90


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own for the state folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "tmpfs"]
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Ballast:
    """A file that takes up the disk but for so many megabytes."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / "ballast"

    def leave(self, megabytes: int) -> None:
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize - megabytes * 2**20
        if free <= 0:
            return
        with self._path.open("ab") as file:
            os.posix_fallocate(file.fileno(), file.tell(), free)

    def drop(self) -> None:
        self._path.unlink()


async def ask_until(http: httpx.AsyncClient, status: int, answers: list[Answer]) -> None:
    """Ask until this status comes, for a bounded time."""
    async with asyncio.timeout(RECOVERY_S):
        while True:
            answers.append(await ask_whole(http, max_tokens=4))
            if answers[-1].status == status:
                return
            await asyncio.sleep(0.2)


async def fill_and_empty(stack: Stack, key: str, ballast: Ballast) -> list[Answer]:
    answers: list[Answer] = []
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as http:
        await ask_until(http, 200, answers)
        ballast.leave(SPARE_MB)
        await ask_until(http, 503, answers)
        refused = await http.post(
            "/v1/chat/completions",
            json={"model": "kindling/spark", "messages": [{"role": "user", "content": "Hi"}]},
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "spool_full")
        assert refused.headers["retry-after"]
        ballast.drop()
        await ask_until(http, 200, answers)
        # Now it fills to the last byte while answers are on their way.
        running = [asyncio.create_task(ask_stream(http, max_tokens=400)) for _ in range(CLIENTS)]
        await asyncio.sleep(0.3)
        ballast.leave(0)
        answers += await asyncio.gather(*running)
        await ask_until(http, 503, answers)
        until = time.monotonic() + 5  # long enough for every process to have met the full disk
        while time.monotonic() < until:
            answers.append(await ask_whole(http, max_tokens=4))
            assert answers[-1].status != 200
            await asyncio.sleep(0.2)
        ballast.drop()
        await ask_until(http, 200, answers)
    return answers


def test_a_full_disk_refuses_requests_and_loses_none(small_disk: Path):
    with started_stack(small_disk) as stack:
        tenant = stack.sign_up("full")
        org_id = tenant.api("GET", "/api/v1/me")["organisation"]["id"]
        answers = asyncio.run(fill_and_empty(stack, tenant.key, Ballast(small_disk)))
        complete = {answer.request_id: answer for answer in answers if answer.complete}
        books = poll(
            lambda: read_books_if_open(stack, org_id),
            lambda seen: (
                seen is not None
                and set(complete) <= set(seen.events)
                and set(seen.events) == set(seen.logged)
            ),
            seconds=RECOVERY_S,
        )
        assert books is not None
        assert_books_agree(books)
        for request_id, answer in complete.items():
            assert books.events[request_id]["completion_tokens"] == answer.completion_tokens
        assert tenant.balance_picousd() == books.balance_picousd
