"""The comparison from start to end; one model is in memory at a time."""

import gc
from collections.abc import Callable
from pathlib import Path

from kindling_engine.models.config import architecture_read
from kindling_engine.models.errors import ModelError
from kindling_engine.models.registry import FAMILIES
from kindling_engine.server.model_text import ModelText, model_text_load
from kindling_engine.verify.logits import greedy_check, logits_check
from kindling_engine.verify.ours import Engine
from kindling_engine.verify.reference import reference_logits
from kindling_engine.verify.result import Subject, Verdict
from kindling_engine.verify.subject import name_and_revision
from kindling_engine.verify.text import template_check, tokenizer_load, tokens_check
from kindling_engine.verify.texts import LONG_PROMPT, PROMPTS


def verdict_make(
    folder: Path,
    *,
    name: str,
    verified_by: str,
    num_tokens: int,
    device: str,
    threads: int,
    say: Callable[[str], None],
) -> Verdict:
    """Compare a checkpoint with transformers. Raises ModelError or ModelTextError when that cannot be done."""
    try:
        import transformers
    except ImportError as error:
        raise ModelError(
            "transformers_missing", "verify compares with transformers: install it first."
        ) from error
    # Our lines say how far it is; transformers' bars would write over them.
    transformers.utils.logging.disable_progress_bar()
    architecture = architecture_read(folder)
    text = model_text_load(folder)
    say("kindling: loading")
    engine = Engine(folder, device=device, threads=threads)
    parts, dtype = engine.parts, engine.parts.dtype
    say("kindling: greedy tokens")
    prompts = _prompts(text, engine.context_length, num_tokens)
    answered = engine.greedy(prompts, num_tokens=num_tokens)
    say("kindling: logits")
    ours = engine.logits(answered)
    config, torch_device = parts.config, parts.device
    # Both models at once may not fit.
    del engine, parts
    gc.collect()
    reference = reference_logits(
        folder, answered, architecture=architecture, dtype=dtype, device=torch_device, say=say
    )
    say("comparing text")
    theirs = tokenizer_load(folder)
    checks = (
        logits_check(ours, reference, dtype),
        greedy_check(answered, reference, dtype),
        tokens_check(text, theirs),
        template_check(text, theirs),
    )
    known, revision = name_and_revision(folder, name)
    subject = Subject(
        architecture=config.architecture,
        name=known,
        revision=revision,
        dtype=str(dtype).removeprefix("torch."),
        decoder="kindling" if architecture in FAMILIES else "transformers",
    )
    return Verdict(subject, checks, verified_by, transformers.__version__)


def _prompts(text: ModelText, context_length: int, num_tokens: int) -> list[list[int]]:
    """Prompts as token ids, none of them empty, and short enough for an answer."""
    room = context_length - num_tokens - 1
    if room < 1:
        raise ModelError(
            "unsupported_model", f"A context of {context_length} tokens has no room for an answer."
        )
    found = [text.tokenizer.encode(prompt).ids[:room] for prompt in (*PROMPTS, LONG_PROMPT)]
    return [list(ids) for ids in found if ids]
