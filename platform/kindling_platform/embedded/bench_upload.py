"""`./kindling bench upload`: how long from the first byte of an adapter's upload to its first token."""

import json
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.first_token import first_token_get
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.rest import Reply, call, error_text
from kindling_platform.embedded.state import state_find
from kindling_platform.embedded.throwaway import throwaway_stack
from kindling_platform.embedded.wide_model import wide_model_write

SMALL_BYTES, LARGE_BYTES = 1_000_000, 20_000_000
ROUNDS, QUICK_ROUNDS = 5, 3
TIMEOUT_S = 60.0


def upload_bench(home: Home, *, quick: bool) -> dict[str, float | None]:
    """Medians: of uploads to the running stack, or to a throw-away one when none runs, and unless ``quick`` of large
    ones to a throw-away stack with a model wide enough for them.
    """
    rounds = QUICK_ROUNDS if quick else ROUNDS
    state = state_find(home)
    if state is not None:
        figures = _measure(state, SMALL_BYTES, rounds)
    else:
        with throwaway_stack() as stack, stack.running() as state:
            figures = _measure(state, SMALL_BYTES, rounds)
    if quick:
        return figures
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as text, throwaway_stack() as stack:
        model = Path(text) / "wide"
        model.mkdir()
        wide_model_write(model)
        with stack.running(model) as state:
            large = _measure(state, LARGE_BYTES, rounds)
    return figures | {f"large_{name}": value for name, value in large.items()}


def _measure(state: dict[str, Any], wanted_bytes: int, rounds: int) -> dict[str, float | None]:
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as text:
        folder = Path(text)
        _write_adapter(folder, _ask("GET", state, f"/api/v1/models/{state['model']}").body, wanted_bytes)
        size = sum(path.stat().st_size for path in folder.iterdir())
        took_s = [_upload_once(state, folder) for _ in range(rounds)]
    return {
        "size_mb": round(size / 1e6, 3),
        "upload_to_first_token_s": round(statistics.median(took_s), 3),
        "slowest_s": round(max(took_s), 3),
    }


def _upload_once(state: dict[str, Any], folder: Path) -> float:
    name = f"bench-{uuid.uuid4().hex[:12]}"
    files = [{"name": path.name, "size_bytes": path.stat().st_size} for path in sorted(folder.iterdir())]
    begun = time.monotonic()
    made = _ask(
        "POST", state, "/api/v1/adapters", {"name": name, "base_model": state["model"], "files": files}
    )
    adapter = f"/api/v1/adapters/{made.body['id']}"
    try:
        for file in files:
            _ask("PUT", state, f"{adapter}/files/{file['name']}", (folder / str(file["name"])).read_bytes())
        _ask("POST", state, f"{adapter}/complete")
        _wait_ready(state, adapter)
        model = f"{state['model'].split('/')[0]}/{name}"
        token = first_token_get(url=state["url"], key=state["api_key"], model=model, timeout_s=TIMEOUT_S)
        return token.at - begun
    finally:
        _ask("DELETE", state, adapter)


def _wait_ready(state: dict[str, Any], adapter: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while (seen := _ask("GET", state, adapter).body)["state"] != "ready":
        if seen["state"] == "rejected" or time.monotonic() > deadline:
            raise EmbeddedError("bench_failed", f"The adapter is {seen['state']}: {seen.get('error')}")
        time.sleep(0.01)


def _ask(method: str, state: dict[str, Any], path: str, body: Any = None) -> Reply:
    reply = call(state["url"] + path, token=state["api_key"], method=method, body=body, timeout_s=TIMEOUT_S)
    if reply.status // 100 != 2:
        raise EmbeddedError("bench_failed", f"{method} {path}: {error_text(reply)}")
    return reply


def _write_adapter(folder: Path, facts: dict[str, Any], wanted_bytes: int) -> None:
    """A random LoRA on all linear layers, of the rank that makes it about as large as wanted."""
    shapes = facts["shapes"]
    hidden, ffn, layers = shapes["hidden_size"], shapes["intermediate_size"], shapes["num_layers"]
    heads, kv = shapes["heads"] * shapes["head_dim"], shapes["kv_heads"] * shapes["head_dim"]
    linears = {
        "self_attn.q_proj": (hidden, heads),
        "self_attn.k_proj": (hidden, kv),
        "self_attn.v_proj": (hidden, kv),
        "self_attn.o_proj": (heads, hidden),
        "mlp.gate_proj": (hidden, ffn),
        "mlp.up_proj": (hidden, ffn),
        "mlp.down_proj": (ffn, hidden),
    }
    bytes_per_rank = 4 * layers * sum(wide + out for wide, out in linears.values())
    rank = max(1, round(wanted_bytes / bytes_per_rank))
    dice = np.random.default_rng(0)
    tensors = {}
    for layer in range(layers):
        for linear, (wide, out) in linears.items():
            prefix = f"base_model.model.model.layers.{layer}.{linear}"
            tensors[f"{prefix}.lora_A.weight"] = dice.normal(0, 0.01, (rank, wide)).astype(np.float32)
            tensors[f"{prefix}.lora_B.weight"] = dice.normal(0, 0.01, (out, rank)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": facts["ref"],
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [linear.split(".")[1] for linear in linears],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
