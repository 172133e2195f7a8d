"""An engine process without a model for the agent: it is ready at once and does as a test tells it.

`POST /make {record fields}` appends a usage record, `POST /behave {"status", "body"}` sets what
`/lora/check` answers, `{"die": true}` makes it die there.
"""

import argparse
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from kindling_engine.protocol.usage_log import UsageLogWriter, UsageRecord

GOOD = {"ok": True, "findings": [{"check": "smoke", "level": "pass", "message": "Made 4 tokens."}]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    for name in (
        "--model",
        "--model-ref",
        "--host",
        "--usage-log",
        "--blobs",
        "--replica",
        "--device",
        "--weights",
        "--tuned",
        "--blob-source",
    ):
        parser.add_argument(name, default="")
    for name in ("--port", "--threads", "--max-batch"):
        parser.add_argument(name, type=int, default=0)
    options = parser.parse_args()
    log = UsageLogWriter(Path(options.usage_log))
    check: dict[str, Any] = {"status": 200, "body": GOOD}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, {"status": "ready", "model": options.model_ref, "active": 0, "waiting": 0})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            if self.path == "/make":
                log.append(msgspec.convert({**record(options.replica), **body}, UsageRecord))
                self.answer(200, {})
            elif self.path == "/behave":
                check.update(body)
                self.answer(200, {})
            elif self.path == "/lora/check":
                if check.get("die"):
                    os._exit(1)
                self.answer(check["status"], check["body"])
            else:
                self.answer(404, {})

        def answer(self, status: int, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

    server = Server((options.host, options.port), Handler)
    print(json.dumps({"event": "ready", "port": server.server_port, "pid": os.getpid()}), flush=True)
    server.serve_forever()


def record(replica: str) -> dict[str, Any]:
    now_ms = int(time.time() * 1000)
    return {
        "request_id": "", "context": "", "tenant": "", "adapter": "", "prompt_tokens": 10, "cached_tokens": 0,
        "completion_tokens": 5, "finish": "stop", "started_ms": now_ms - 50, "first_token_ms": now_ms - 40,
        "finished_ms": now_ms, "replica": replica,
    }  # fmt: skip


if __name__ == "__main__":
    main()
