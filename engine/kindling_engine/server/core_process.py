"""Starts the core as a child of the front and connects the two."""

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from kindling_engine.protocol.openmp import patient
from kindling_engine.server.core_link import CoreLink, CoreStartError
from kindling_engine.server.options import ServeOptions, core_arguments

CORE_COMMAND = (sys.executable, "-m", "kindling_engine.core")
END_WITHIN_S = 2.0
SOCKET = "core.sock"
MOST_SOCKET_PATH_BYTES = 107
"""The kernel takes no longer path for a socket."""


class CoreProcess:
    """The child and its link. The child ends when the link closes, and dies with us however we end."""

    def __init__(self, process: asyncio.subprocess.Process, link: CoreLink, server: asyncio.Server) -> None:
        self.process = process
        self.link = link
        self._server = server

    async def wait_ready(self) -> None:
        """Wait for the model to be loaded. Raises CoreStartError."""
        ended = asyncio.ensure_future(self.process.wait())
        try:
            either: list[asyncio.Future[Any]] = [ended, self.link.ready]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not self.link.ready.done():
                # Its last words may still be in the socket.
                await asyncio.wait({self.link.ready}, timeout=0.2)
            if not self.link.ready.done():
                status = self.process.returncode
                raise CoreStartError(
                    "core_died", f"The engine's core ended with status {status} while starting."
                )
            self.link.ready.result()
        finally:
            ended.cancel()
            self._server.close()

    async def end(self) -> None:
        """Hang up, wait, and kill if it does not go."""
        self.link.close()
        self._server.close()
        try:
            await asyncio.wait_for(self.process.wait(), END_WITHIN_S)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def core_start(options: ServeOptions, command: tuple[str, ...] = CORE_COMMAND) -> CoreProcess:
    """Start the core; it connects to a socket that only we can reach. The model loads meanwhile."""
    folder = _socket_folder()
    try:
        loop = asyncio.get_running_loop()
        link = CoreLink()
        socket = folder / SOCKET
        server = await loop.create_unix_server(lambda: link, str(socket), backlog=1)
        environment = patient(os.environ)
        if options.threads:
            environment["OMP_NUM_THREADS"] = str(options.threads)
        # Nothing but our own events belongs on stdout.
        process = await asyncio.create_subprocess_exec(
            *command, *core_arguments(options, socket), stdout=sys.stderr, env=environment
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    link.ready.add_done_callback(lambda _: shutil.rmtree(folder, ignore_errors=True))
    return CoreProcess(process, link, server)


def _socket_folder() -> Path:
    """A new one that nobody else may enter (mode 0700), whose path leaves room for the socket's name."""
    folder = Path(tempfile.mkdtemp(prefix="kindling-core-"))
    if len(os.fsencode(folder / SOCKET)) <= MOST_SOCKET_PATH_BYTES:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="kindling-core-", dir="/tmp"))
