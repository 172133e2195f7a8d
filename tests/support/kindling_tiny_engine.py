"""The smallest process that behaves like an engine towards the agent; a file `mode` in the model folder
chooses how: `die` ends at once, `refuse` reports a failure, `reject` that it does not take the model, `deaf` ignores
the polite signal."""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from kindling_engine.protocol.usage_log import UsageLogWriter, UsageRecord


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb")
    for name in (
        "model",
        "model-ref",
        "host",
        "usage-log",
        "blobs",
        "replica",
        "device",
        "threads",
        "max-batch",
        "weights",
        "kv-dtype",
        "tuned",
    ):
        parser.add_argument(f"--{name}")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    model = Path(options.model)
    mode = (model / "mode").read_text().strip() if (model / "mode").exists() else "serve"
    if mode == "die":
        sys.exit("no such model")
    if mode in ("refuse", "reject"):
        code = "weights_dtype" if mode == "reject" else "bad_model"
        print(json.dumps({"event": "failed", "code": code, "message": "The model is broken."}), flush=True)
        sys.exit(3)
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    (model / "weights").write_text(options.weights)
    (model / "kv_dtype").write_text(options.kv_dtype or "")
    (model / "environ").write_text("\n".join(sorted(os.environ)))
    # It does not notice that we end, so that whoever ends us has to end it; if nobody can, it goes by itself.
    core = subprocess.Popen([sys.executable, "-c", "import signal; signal.alarm(300); signal.pause()"])
    (model / "core").write_text(str(core.pid))
    log = UsageLogWriter(Path(options.usage_log))
    life = sum(1 for _ in model.glob("life-*"))
    (model / f"life-{life}").touch()
    log.append(
        UsageRecord(
            request_id=f"request-{life}",
            context="{}",
            tenant="org",
            adapter="",
            prompt_tokens=3,
            cached_tokens=0,
            completion_tokens=5,
            finish="stop",
            started_ms=1,
            first_token_ms=2,
            finished_ms=3,
            replica=options.replica,
        )
    )
    with socket.create_server((options.host, options.port)) as door:
        print(f"a word from life {life}", flush=True)
        print(json.dumps({"event": "ready", "port": door.getsockname()[1], "pid": os.getpid()}), flush=True)
        while True:
            door.accept()[0].close()


if __name__ == "__main__":
    main()
