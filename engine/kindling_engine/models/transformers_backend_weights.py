"""Reads a checkpoint into transformers' modules: safetensors only, and nothing left to chance."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kindling_engine.models.errors import ModelError
from kindling_engine.models.memory import out_of_memory
from kindling_engine.models.weights import Checkpoint, LoadProgress


def causal_load(
    folder: Path,
    config: Any,
    *,
    architecture: str,
    dtype: torch.dtype,
    device: torch.device,
    progress: LoadProgress | None,
    attention: str | None,
) -> Any:
    """The causal model with its weights, in evaluation mode on the device; without ``attention`` with its own.

    transformers starts missing tensors at random and says so in its log; here they are refused. Raises
    ModelError that names the file or the tensor.
    """
    import transformers

    transformers.logging.disable_progress_bar()
    owner: Any = getattr(transformers, architecture)
    try:
        with (
            Checkpoint(folder, dtype=dtype, device=device, progress=progress) as checkpoint,
            _reading(checkpoint) as tensors,
        ):
            causal, info = owner.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                dtype=dtype,
                attn_implementation=attention,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except KeyError as error:
        if attention is None or error.args != (attention,):
            raise
        # Modules with a table of attention classes of their own look our name up in it.
        raise ModelError(
            "unsupported_model",
            f"{architecture} is not served: it does not go through transformers' attention interface.",
        ) from error
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        # Not the model's fault: another try may find disk and device better.
        if out_of_memory(error) or "CUDA error" in str(error) or getattr(error, "errno", None):
            raise
        said = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise ModelError("unsupported_model", f"transformers cannot load {architecture}: {said}") from error
    _info_check(info)
    if getattr(causal.config, "output_router_logits", False):
        causal.config.output_router_logits = False
    return causal.to(device).requires_grad_(False).eval()


class _LazyTensor:
    """Read when transformers slices it, as it slices a file's tensors."""

    def __init__(self, read: Callable[[], Tensor]) -> None:
        self._read = read

    def __getitem__(self, _whole: Any) -> Tensor:
        return self._read()


@contextmanager
def _reading(checkpoint: Checkpoint) -> Iterator[dict[str, _LazyTensor]]:
    """All tensors by name, FP8 ones without their scales: transformers asks, from several threads, for those that the
    model has, and stacks and converts them; one at a time is read and widened.
    """
    lock, over = threading.Lock(), threading.Event()

    def read(name: str) -> Tensor:
        with lock:
            if over.is_set():
                raise InterruptedError("The files are closed.")
            return checkpoint.plain(name)

    try:
        yield {name: _LazyTensor(partial(read, name)) for name in checkpoint.names_meant()}
    finally:
        # When one could not be read, the threads go on with others for a moment.
        with lock:
            over.set()


def _info_check(info: dict[str, Any]) -> None:
    for name, stored, wanted in sorted(info["mismatched_keys"]):
        raise ModelError(
            "weights_shape",
            f"Tensor {name} has shape {tuple(stored)}; config.json implies {tuple(wanted)}.",
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError("weights_missing", f"The checkpoint has no tensor {missing[0]}.")
    if info.get("error_msgs") or info.get("conversion_errors"):
        said = str(info.get("error_msgs") or info.get("conversion_errors"))[:300]
        raise ModelError("weights_unreadable", f"transformers could not place every tensor: {said}")
