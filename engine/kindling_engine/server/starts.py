"""What the core is asked for: one request of its own for every choice."""

from dataclasses import replace
from hashlib import blake2b

from kindling_engine.protocol.headers import EngineHeaders, salt_isolate
from kindling_engine.protocol.ipc import Submit
from kindling_engine.protocol.sampling import Sampling
from kindling_engine.server.choice import Choice
from kindling_engine.server.generation import Start
from kindling_engine.server.harmony.count import HarmonyCount
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.output_text import OutputText
from kindling_engine.server.prediction_count import PredictionCount
from kindling_engine.server.reasoning import ReasoningCount
from kindling_engine.server.request_common import GenerationRequest, Prompt


def starts_make(
    request: GenerationRequest,
    headers: EngineHeaders,
    text: ModelText,
    eos_ids: frozenset[int],
) -> list[Start]:
    """A choice for every wanted answer to every prompt, in order of index."""
    prompts = [prompt for prompt in request.prompts for _ in range(request.best_of)]
    end_ids = frozenset(request.sampling.stop_token_ids)
    if not request.sampling.ignore_eos:
        end_ids |= eos_ids
    starts = []
    for index, prompt in enumerate(prompts):
        core_id = headers.request if len(prompts) == 1 else f"{headers.request}/{index}"
        choice = _choice(request, prompt, index, core_id=core_id, text=text, end_ids=end_ids)
        choice.reasoning = _reasoning(request, text)
        choice.prediction = PredictionCount(request.prediction) if request.prediction else None
        starts.append(Start(choice, _submit(request, prompt, index, headers, core_id)))
    return starts


def choice_seed(seed: int | None, index: int) -> int | None:
    """The seed of a choice's own noise stream; the first one keeps the request's, so that n changes nothing for it."""
    if seed is None or index == 0:
        return seed
    return int.from_bytes(blake2b(f"{seed}/{index}".encode(), digest_size=8).digest(), "little")


def _choice(
    request: GenerationRequest,
    prompt: Prompt,
    index: int,
    *,
    core_id: str,
    text: ModelText,
    end_ids: frozenset[int],
) -> Choice:
    harmony = request.shape.harmony if request.shape else None
    output = OutputText(
        text.tokenizer,
        request.stops,
        include_stop=request.include_stop,
        min_tokens=request.sampling.min_tokens,
        show_special=request.show_special,
        marks=harmony.marks if harmony else None,
    )
    return Choice(
        id=core_id,
        index=index,
        prompt=prompt,
        output=output,
        end_ids=end_ids,
        echo=request.echo,
        scoring=request.scoring,
    )


def _reasoning(request: GenerationRequest, text: ModelText) -> ReasoningCount | HarmonyCount | None:
    shape = request.shape
    if shape is not None and shape.harmony is not None:
        return HarmonyCount(shape.harmony, shape.offered, text.token_text)
    if shape is None or shape.reasoning is None:
        return None
    return ReasoningCount(shape.reasoning, text.is_blank, opened=shape.opened)


def _submit(
    request: GenerationRequest, prompt: Prompt, index: int, headers: EngineHeaders, core_id: str
) -> Submit:
    return Submit(
        id=core_id,
        prompt_ids=prompt.ids,
        adapter=headers.adapter,
        salt=salt_isolate(headers.salt, request.isolation),
        tenant=headers.tenant,
        priority=headers.priority,
        weight=headers.weight,
        max_tokens=prompt.max_tokens,
        grant=prompt.max_tokens,
        sampling=_sampling(request.sampling, index),
        # Answers are ranked by their log-probabilities.
        logprobs=max(request.logprobs, 0) if request.best_of > request.n else request.logprobs,
        prompt_logprobs=request.logprobs if request.echo else -1,
        constraint=request.constraint,
        thinking=request.thinking,
        prediction_ids=request.prediction,
    )


def _sampling(sampling: Sampling, index: int) -> Sampling:
    seed = choice_seed(sampling.seed, index)
    return sampling if seed == sampling.seed else replace(sampling, seed=seed)
