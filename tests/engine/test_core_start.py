"""Where the front and its core meet."""

import asyncio
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from kindling_engine.server.core_process import core_start
from kindling_engine.server.options import serve_options_parse

SERVE = ["--model", "m", "--model-ref", "r", "--usage-log", "u", "--blobs", "b", "--replica", "r"]
CALLS = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[sys.argv.index('--socket') + 1])"


@pytest.mark.parametrize("depth", [0, 30])
async def test_front_and_core_meet(depth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """However long the path of temporary files is: a socket's must not be."""
    deep = tmp_path.joinpath(*["deep"] * depth)
    deep.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    core = await core_start(serve_options_parse(SERVE), (sys.executable, "-c", CALLS))
    folder = Path(core._server.sockets[0].getsockname()).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.is_relative_to(deep) is (depth == 0)
    assert await core.process.wait() == 0
    await core.end()
    async with asyncio.timeout(10):
        while folder.exists():
            await asyncio.sleep(0.01)
    assert list(deep.iterdir()) == []
