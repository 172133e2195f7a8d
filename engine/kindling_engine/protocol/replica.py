"""What the reconciler asks an agent for, and what the agent says is there."""

import msgspec

from kindling_engine.protocol.kv_dtypes import AUTO
from kindling_engine.protocol.weight_forms import CHECKPOINT

# Codes of an engine that refuses its model: what lies in the folder is at fault, and another start alone mends nothing.
MODEL_REFUSED = frozenset(
    (
        *("model_missing", "model_config", "unsupported_model", "unsupported_mode", "not_a_generation_model"),
        *("unsupported_weights", "unsupported_kv_dtype"),
        *("weights_dtype", "weights_index", "weights_missing", "weights_shape"),
        *("tokenizer_unusable", "transformers_missing"),
    )
)


class ReplicaSpec(msgspec.Struct, frozen=True):
    """One engine process as it should be; `device` is auto, cpu or cuda.

    `threads` 0 lets the engine measure how many are worth it. `weights` is one of WEIGHT_FORMS,
    `kv_dtype` one of KV_DTYPES.
    """

    name: str
    deployment_id: str
    generation: int
    model_path: str
    model_ref: str
    device: str = "auto"
    max_batch: int = 64
    threads: int = 0
    weights: str = CHECKPOINT
    kv_dtype: str = AUTO


class ReplicaStatus(msgspec.Struct):
    """One engine process as it is: state is starting, ready, restarting, failed or stopped.

    Whoever finds no room for one calls it waiting.
    """

    name: str
    generation: int
    state: str
    url: str = ""
    pid: int | None = None
    restarts: int = 0
    reason: str = ""
    ready_ms: int | None = None
