"""How many threads the steps of this process get when nobody has said so."""

import logging
import time
from itertools import count

import torch

from kindling_engine.core.steps import Runner, StepLoop
from kindling_engine.core.warmup import warm_up_request, warm_up_text, warmed_up
from kindling_engine.models.base import ModelConfig
from kindling_engine.runner.threads import (
    Timed,
    cores_allowed,
    thread_candidates,
    threads_choose,
    undisturbed_s,
)
from kindling_engine.scheduler.scheduler import Scheduler

logger = logging.getLogger(__name__)

# Reading these takes about as long as making those: a chat spends its time on both.
_PROMPT_TOKENS, _NEW_TOKENS = 32, 6
_FIRST_INDEX = 1 << 20


def threads_settle(
    scheduler: Scheduler,
    runner: Runner,
    config: ModelConfig,
    device: torch.device,
    *,
    cores: int | None = None,
    timed: Timed = undisturbed_s,
) -> int:
    """Set and return the number of threads, at most ``cores``, by default those that this process may use.

    On a CPU a short request is timed with each number; a GPU's host needs one. Raises RuntimeError when the model
    makes nothing.
    """
    candidates = thread_candidates(cores_allowed() if cores is None else cores)
    if device.type != "cpu" or candidates == [1]:
        torch.set_num_threads(1)
        return 1
    indices = count(_FIRST_INDEX)
    chosen = threads_choose(lambda: _run(scheduler, runner, config, next(indices)), candidates, timed=timed)
    logger.info("%d threads for a step, measured against up to %d", chosen, candidates[-1])
    return chosen


def _run(scheduler: Scheduler, runner: Runner, config: ModelConfig, index: int) -> None:
    """One request from its prefill to its last token."""
    if config.task == "embed":
        request = warm_up_text(index, vocab_size=config.vocab_size, max_length=scheduler.max_length)
    else:
        request = warm_up_request(
            index,
            vocab_size=config.vocab_size,
            max_length=scheduler.max_length,
            prompt_tokens=_PROMPT_TOKENS,
            new_tokens=_NEW_TOKENS,
        )
    loop = StepLoop(scheduler, runner, emit=lambda outcome, draw: None)
    scheduler.add(request, time.monotonic())
    while scheduler.has_work and loop.step(time.monotonic()) is not None:
        pass
    if not warmed_up(request):
        raise RuntimeError("the model made no warm-up token")
