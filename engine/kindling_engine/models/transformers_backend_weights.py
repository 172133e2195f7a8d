"""Reads a checkpoint into transformers' modules: safetensors only, and nothing left to chance."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from kindling_engine.models.errors import ModelError
from kindling_engine.models.memory import out_of_memory
from kindling_engine.models.weight_files import file_index, weights_open
from kindling_engine.models.weights import LoadProgress


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

    files = sorted(set(file_index(folder).values()))
    for name in files:
        with weights_open(folder / name):
            pass
    num_bytes = sum((folder / name).stat().st_size for name in files)
    owner: Any = getattr(transformers, architecture)
    try:
        with _progress_told(progress, num_bytes):
            causal, info = owner.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,
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
        if out_of_memory(error):
            raise
        said = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise ModelError("unsupported_model", f"transformers cannot load {architecture}: {said}") from error
    _info_check(info)
    if getattr(causal.config, "output_router_logits", False):
        causal.config.output_router_logits = False
    return causal.to(device).requires_grad_(False).eval()


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


@contextmanager
def _progress_told(progress: LoadProgress | None, num_bytes: int) -> Iterator[None]:
    """Turn transformers' progress bar into calls of ours, where this version lets us."""
    from transformers.utils import logging

    set_hook: Callable[[Any], Any] | None = getattr(logging, "set_tqdm_hook", None)
    if set_hook is None:
        yield
        return

    def bar(_factory: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        items = list(arguments[0] if arguments else options.get("iterable", ()))
        return _told(items, progress, num_bytes)

    before = set_hook(bar)
    try:
        yield
    finally:
        set_hook(before)
    if progress is not None:
        progress(num_bytes, num_bytes)


def _told(items: list[Any], progress: LoadProgress | None, num_bytes: int) -> Iterator[Any]:
    for index, item in enumerate(items):
        yield item
        if progress is not None:
            progress(num_bytes * (index + 1) // len(items), num_bytes)
