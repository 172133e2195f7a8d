"""Which configurations of the kernels a model's steps run with on its GPU: chosen at the start, before any is captured.

Where nothing is chosen, each kernel's first configuration runs.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from kindling_engine.lora.slabs import DeviceSlabs
from kindling_engine.models.decoder import Decoder
from kindling_engine.protocol.tune_modes import FULL, OFF, TUNE_LIMIT_S

logger = logging.getLogger(__name__)

_MOST_BYTES = 4 << 30
_FREE_SHARE = 4


@dataclass(frozen=True, slots=True)
class Tuning:
    """``mode`` of ``protocol.tune_modes``: nothing, what is kept in ``folder``, or that and what is missing, measured.

    Without a folder choices are kept in the user's cache. No measurement begins behind ``limit_s``.
    """

    mode: str = FULL
    folder: Path | None = None
    limit_s: float = TUNE_LIMIT_S


@torch.inference_mode()
def decoder_tune(
    model: Decoder,
    *,
    page_dtype: torch.dtype,
    max_batch: int,
    max_length: int,
    slabs: DeviceSlabs | None,
    tuning: Tuning,
) -> None:
    """For a model's shapes, pages of ``page_dtype`` and adapters in ``slabs``; without triton nothing happens."""
    if tuning.mode == OFF:
        return
    try:
        from kindling_engine.kernels.choice_book import ChoiceBook, folder_default, stamp_of
        from kindling_engine.kernels.clock import GraphClock
        from kindling_engine.kernels.tune import tune
        from kindling_engine.kernels.tuning import TUNER
        from kindling_engine.runner.trials import decoder_trials
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        return
    began_s = time.monotonic()
    trials = decoder_trials(
        model,
        page_dtype=page_dtype,
        max_batch=max_batch,
        max_length=max_length,
        slabs=slabs,
        budget_bytes=_budget_bytes(model.device),
    )
    tuned = tune(
        trials,
        TUNER,
        ChoiceBook(tuning.folder or folder_default(), stamp_of(model.device)),
        clock=GraphClock() if tuning.mode == FULL else None,
        limit_s=tuning.limit_s,
    )
    # What was measured on is of no more use, and graphs are to find the memory.
    torch.cuda.empty_cache()
    logger.info(
        "configurations of kernels in %.1f s: %d read, %d measured, %d left for another start, %d failed",
        time.monotonic() - began_s,
        tuned.read,
        tuned.measured,
        tuned.left,
        tuned.failed,
    )


def _budget_bytes(device: torch.device) -> int:
    """What measuring may take of the memory that weights and pages leave."""
    if device.type != "cuda":
        return _MOST_BYTES
    return min(_MOST_BYTES, torch.cuda.mem_get_info(device)[0] // _FREE_SHARE)
