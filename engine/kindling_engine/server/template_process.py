"""Runs chat templates in a process of their own, so that one which does not end, or eats memory, ends only itself.

A thread could not be stopped, and a single operation of Jinja (a power, a padded string) can hold the interpreter for
minutes; the kernel stops a process whatever it does.
"""

import asyncio
import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from kindling_engine.server.chat_template import ChatTemplate
from kindling_engine.server.errors import engine_unavailable, invalid_value

WORKER_COMMAND = (sys.executable, "-m", "kindling_engine.server.template_worker")
# The worker ends itself after a second of processor time; this is for machines where that takes its time.
ANSWER_WITHIN_S = 20.0
READ_BYTES = 1 << 20


class TemplateProcess:
    """Renders one request after another in a child, which is started when first needed and after each death."""

    def __init__(self, command: tuple[str, ...] = WORKER_COMMAND) -> None:
        self._command = command
        self._queue = ThreadPoolExecutor(max_workers=1, thread_name_prefix="templates")
        self._child: subprocess.Popen[bytes] | None = None
        self._known: set[int] = set()  # the templates that this child has been given
        self._pending = b""

    async def render(
        self,
        template: ChatTemplate,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
        *,
        begins: bool = True,
    ) -> str:
        """As `ChatTemplate.render`. Errors: `invalid_value` when it refuses, fails or does not end."""
        loop = asyncio.get_running_loop()
        fields: dict[str, Any] = {"messages": messages, "tools": tools, "begins": begins}
        fields["variables"] = dict(variables or {})
        return await loop.run_in_executor(self._queue, self._render, template, fields)

    def warm(self) -> None:
        """Start the child in the background, unless it runs."""
        self._queue.submit(self._ensure)

    def _render(self, template: ChatTemplate, fields: dict[str, Any]) -> str:
        self._ensure()
        number = template.number
        fields["template"] = number
        if number not in self._known:
            fields |= {"source": template.source, "special_tokens": template.special_tokens}
        line = self._exchange(json.dumps(fields).encode() + b"\n")
        if line is None:
            self._end()
            raise invalid_value(
                "messages", "The model's chat template did not come to an end with these messages."
            )
        self._known.add(number)
        answer = json.loads(line)
        if "error" in answer:
            raise invalid_value("messages", answer["error"])
        return str(answer["text"])

    def _exchange(self, line: bytes) -> bytes | None:
        """The child's answer, None when it has died or is too slow."""
        assert self._child
        assert self._child.stdin
        assert self._child.stdout
        deadline = time.monotonic() + ANSWER_WITHIN_S
        try:
            self._child.stdin.write(line)
            self._child.stdin.flush()
        except OSError:
            return None
        source = self._child.stdout.fileno()
        parts: list[bytes] = []
        while not (parts and parts[-1].endswith(b"\n")):
            ready, _, _ = select.select([source], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(source, READ_BYTES) if ready else b""
            if not part:
                return None
            parts.append(part)
        return b"".join(parts)

    def _ensure(self) -> None:
        if self._child is not None and self._child.poll() is None:
            return
        self._end()
        try:
            self._child = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            raise engine_unavailable("The engine cannot render chat templates now.") from error

    def _end(self) -> None:
        child, self._child = self._child, None
        self._known.clear()
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe:
                with contextlib.suppress(OSError):  # what could not be written any more
                    pipe.close()


@cache
def template_process() -> TemplateProcess:
    """The one process of this front."""
    return TemplateProcess()
