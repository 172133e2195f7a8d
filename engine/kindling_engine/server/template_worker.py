"""The process that renders chat templates: one JSON line in, one out, within a second of processor time.

It imports nothing heavy, so that it starts quickly, and it is meant to be killed.
"""

import json
import resource
import signal
import sys
from typing import Any

from kindling_engine.server.chat_template import ChatTemplate
from kindling_engine.server.errors import ApiError

# The kernel ends the process when a single rendering takes longer; a template has no say in that.
RENDER_CPU_S = 1.0
MEMORY_BYTES = 1024 * 1024 * 1024


def main() -> None:
    """Serve until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # whoever started us decides; the end of its input is the end
    templates: dict[int, ChatTemplate] = {}
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, RENDER_CPU_S)
        answer = _answer(json.loads(line), templates)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()


def _answer(asked: dict[str, Any], templates: dict[int, ChatTemplate]) -> bytes:
    number = asked["template"]
    if "source" in asked:
        templates[number] = ChatTemplate(asked["source"], asked["special_tokens"])
    try:
        text = templates[number].render(
            asked["messages"], asked["tools"], asked["variables"], begins=asked["begins"]
        )
        return json.dumps({"text": text}).encode()
    except ApiError as error:
        return json.dumps({"error": error.message}).encode()
    except MemoryError:
        return json.dumps({"error": "The model's chat template needs too much memory."}).encode()


if __name__ == "__main__":
    main()
