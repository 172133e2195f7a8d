"""The stack under test, as its operator and its customer reach it."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.files import read_json
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.rest import Reply, call, error_text
from kindling_platform.embedded.secrets import secrets_read

RECOVERY_S = 120.0
PAUSE_S = 0.005


class Target:
    """One stack; what of it is killed comes back under other process ids."""

    def __init__(self, home: Home, state: dict[str, Any]) -> None:
        self.home = home
        self.url: str = state["url"]
        self.key: str = state["api_key"]
        self.model: str = state["model"]
        self.supervisor_pid: int = state["pid"]
        self.database_url: str = state["database_url"]
        self.redis_url: str = state["redis_url"]
        self._agent_url: str = state["agent_url"]
        self._agent_token = secrets_read(home.secrets)["KINDLING_AGENT_TOKEN"]

    def api(self, method: str, path: str, body: Any = None, *, key: str = "") -> Any:
        """Call the control API, as the operator without a key. Errors: `bench_failed`."""
        reply = call(self.url + path, token=key or self.key, method=method, body=body)
        if reply.status // 100 != 2:
            raise EmbeddedError("bench_failed", f"{method} {path}: {error_text(reply)}")
        return reply.body

    def chat(self, *, key: str = "", max_tokens: int = 1) -> Reply:
        """One short answer, or the refusal."""
        return call(
            f"{self.url}/v1/chat/completions",
            token=key or self.key,
            method="POST",
            body=self.chat_body(max_tokens=max_tokens),
            timeout_s=30,
        )

    def chat_body(self, *, max_tokens: int, stream: bool = False) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": "Tell me a long story about a fox."}],
            "max_tokens": max_tokens,
            "ignore_eos": True,
        }
        return body | {"stream": True, "stream_options": {"include_usage": True}} if stream else body

    def replica(self) -> dict[str, Any]:
        """The engine as its agent sees it; empty while the agent is away."""
        reply = call(f"{self._agent_url}/replicas", token=self._agent_token)
        replicas = reply.body.get("replicas", []) if reply.status == 200 else []
        return dict(replicas[0]) if replicas else {}

    def engine_active(self, url: str) -> int:
        """Requests that run in the engine at this address; -1 when it does not answer."""
        reply = call(f"{url}/healthz", token="")
        return int(reply.body["active"]) if reply.status == 200 else -1

    def kill(self, victim: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a child of the supervisor, or the engine, the way the kernel does or as this signal does."""
        if pid := self.pid(victim):
            os.kill(pid, number)

    def pid(self, name: str) -> int:
        """The process of a child or of the engine as it is now; 0 when there is none."""
        pid = self.replica().get("pid") if name == "engine" else self._state()["children"].get(name)
        return int(pid or 0)

    def wait(
        self,
        until: Callable[[], Any],
        what: str,
        *,
        seconds: float = RECOVERY_S,
        every_s: float = PAUSE_S,
    ) -> Any:
        """Look until something is so. Errors: `bench_failed` when it never is."""
        deadline = time.monotonic() + seconds
        while not (value := until()):
            if time.monotonic() > deadline:
                raise EmbeddedError("bench_failed", f"{what} did not come about in {seconds:.0f} s.")
            time.sleep(every_s)
        return value

    def usage_logs(self) -> list[Path]:
        return sorted((self.home.path / "usage").glob("*.log"))

    def _state(self) -> dict[str, Any]:
        try:
            return read_json(self.home.state)
        except json.JSONDecodeError:
            return {"children": {}}
