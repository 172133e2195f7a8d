"""The engine as a Python object: the same scheduler, runner and sampling as behind the server, in one thread.

from kindling_engine.llm import LLM, SamplingParams

llm = LLM("models/SmolLM2-135M-Instruct")
params = SamplingParams(temperature=0.7, seed=1, max_tokens=64, stop=["\\n\\n"])
for completion in llm.generate(["The tallest tree is", "A haiku about rain:"], params):
    print(completion.finish, completion.text)

answer = llm.chat([{"role": "user", "content": "Name three rivers."}], SamplingParams(temperature=0))
with_adapter = llm.generate(["Dear customer,"], params, adapter=Path("adapters/support"))
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.core.constraints import constraint_attach
from kindling_engine.core.intake import IntakeError, request_make
from kindling_engine.core.loops import loop_make
from kindling_engine.core.options import CoreOptions
from kindling_engine.core.startup import parts_build
from kindling_engine.embeddings.ticket import ticket_of
from kindling_engine.embeddings.vectors import unit_rows
from kindling_engine.offline.adapter import AdapterPin, IdleBorrower
from kindling_engine.offline.answer import OpenAnswer
from kindling_engine.offline.embedding import texts_embed, texts_encode
from kindling_engine.offline.params import Completion, LocalSubmission, SamplingParams, Timing
from kindling_engine.offline.progress import Progress
from kindling_engine.protocol.adapter_memory import LORA_BORROW, LORA_MIB
from kindling_engine.protocol.kv_dtypes import AUTO as KV_AUTO
from kindling_engine.protocol.speculation_modes import AUTO
from kindling_engine.protocol.weight_forms import CHECKPOINT
from kindling_engine.sampling.sampler import Draw
from kindling_engine.scheduler.plan import Outcome, StepPlan
from kindling_engine.server.errors import ApiError
from kindling_engine.server.messages import messages_read
from kindling_engine.server.model_text import ModelText, model_text_load

__all__ = ["LLM", "Completion", "SamplingParams", "Timing"]

Prompt = str | list[int]
Message = Mapping[str, Any]
_DEFAULT = SamplingParams()


class LLM:
    """A model in memory. One thread at a time may call it.

    ``model`` is a folder as transformers saves it. ``device`` is auto, cpu or cuda; ``threads`` 0 chooses by measuring;
    ``kv_tokens`` 0 sizes the KV cache by the memory at hand; ``weights`` is checkpoint, fp16, int8wo or fp8;
    ``kv_dtype`` fp8 keeps keys and values in a byte each, auto in the dtype that the model computes in;
    ``batch_invariant`` makes an answer the same to the last bit whatever runs beside it (CPU), at a price only for
    prompts beyond some 1,000 tokens and for models whose layers are not compiled;
    ``speculation`` auto or off is whether tokens are guessed ahead where that is faster. Raises ModelError when the
    model cannot be served.
    """

    def __init__(
        self,
        model: str | Path,
        device: str = "auto",
        threads: int = 0,
        kv_tokens: int = 0,
        max_batch: int = 64,
        *,
        step_tokens: int = 2048,
        lora_mib: int = LORA_MIB,
        lora_borrow: int = LORA_BORROW,
        weights: str = CHECKPOINT,
        kv_dtype: str = KV_AUTO,
        batch_invariant: bool = False,
        speculation: str = AUTO,
    ) -> None:
        folder = Path(model)
        options = CoreOptions(
            socket=Path(),
            model=folder,
            model_ref=folder.name,
            blobs=Path(),
            device=device,
            threads=threads,
            kv_tokens=kv_tokens,
            max_batch=max_batch,
            step_tokens=step_tokens,
            lora_mib=lora_mib,
            lora_borrow=lora_borrow,
            weights=weights,
            kv_dtype=kv_dtype,
            batch_invariant=batch_invariant,
            speculation=speculation,
        )
        self._pin = AdapterPin()
        self._parts = parts_build(options, self._pin.wake)
        self._parts.kv.loans.borrower = IdleBorrower(self._parts.adapters)
        self._loop = loop_make(self._parts.scheduler, self._parts.runner, emit=self._take)
        self._folder = folder
        self._has_text = (folder / "tokenizer.json").is_file()
        self._text: ModelText | None = None
        self._open: dict[str, OpenAnswer] = {}
        self._made = 0
        self.timing = Timing()
        """Of the last run."""

    @property
    def context_length(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return self._parts.scheduler.max_length

    def generate(
        self,
        prompts: str | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] = _DEFAULT,
        *,
        adapter: Path | None = None,
        progress: bool | None = None,
    ) -> list[Completion]:
        """Complete every prompt, a text or its token ids, or a single text; the answers come in the prompts' order.

        ``params`` is one for all or one for each. A prompt that does not fit ends with finish ``error`` beside the
        others. A progress bar appears for long lists on a terminal, or as ``progress`` says. Raises ValueError for
        parameters out of range and AdapterError when the adapter cannot be loaded.
        """
        if self._parts.config.task == "embed":
            raise ValueError("This model makes embeddings; use embed.")
        prompts = [prompts] if isinstance(prompts, str) else prompts
        each = [params] * len(prompts) if isinstance(params, SamplingParams) else list(params)
        if len(each) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts came with {len(each)} sampling parameters.")
        ids = self._encode(prompts)
        with self._pin.pinned(self._parts.adapters, adapter) as name:
            answers = [
                self._answer(index, *one, name) for index, one in enumerate(zip(ids, each, strict=True))
            ]
            return self._run(answers, progress)

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        params: SamplingParams | Sequence[SamplingParams] = _DEFAULT,
        *,
        adapter: Path | None = None,
        progress: bool | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> list[Completion]:
        """Answer one conversation or a list of them through the model's chat template.

        ``variables`` go to the template. Raises ValueError when a conversation or the template is at fault.
        """
        single = bool(messages) and isinstance(messages[0], Mapping)
        conversations = cast("Sequence[Sequence[Message]]", [messages] if single else messages)
        templates = self._model_text().templates
        if templates is None:
            raise ValueError("This model has no chat template; use generate.")
        template = templates.pick(tools=False)
        try:
            texts = [
                template.render(messages_read([dict(one) for one in each]), variables=variables)
                for each in conversations
            ]
        except ApiError as error:
            raise ValueError(error.message) from None
        ids = self._tokenize(texts, add_special_tokens=False)
        return self.generate(ids, params, adapter=adapter, progress=progress)

    def embed(
        self, texts: str | Sequence[Prompt], *, dimensions: int | None = None, truncate: bool = False
    ) -> NDArray[np.float32]:
        """Vectors ``[texts, dimensions]`` of unit length, of texts or their token ids, or of a single text.

        ``dimensions`` keeps the first of each vector's values, all by default; ``truncate`` shortens a text that is
        too long for the model instead of refusing it. Raises ValueError for a text that fails, and when the model
        does not embed.
        """
        texts = [texts] if isinstance(texts, str) else texts
        config = self._parts.config
        if config.task != "embed":
            raise ValueError("This model generates text; it makes no embeddings.")
        if dimensions is not None and not 1 <= dimensions <= config.hidden_size:
            raise ValueError(f"dimensions must be from 1 to {config.hidden_size}.")
        if not texts:
            return np.zeros((0, dimensions or config.hidden_size), dtype=np.float32)
        limit = self.context_length
        words = [text for text in texts if isinstance(text, str)]
        encoded = iter(
            texts_encode(self._folder, self._model_text(), words, context_length=limit, truncate=truncate)
            if words
            else ()
        )
        cut = limit if truncate else None
        ids = [next(encoded) if isinstance(text, str) else list(text)[:cut] for text in texts]
        self.timing = Timing()
        self._made += 1
        name = f"offline/{self._made}"
        found = texts_embed(ids, scheduler=self._parts.scheduler, step=self._step, name=name)
        return unit_rows(found, dimensions or config.hidden_size)

    def _answer(self, index: int, ids: list[int], params: SamplingParams, adapter: str) -> OpenAnswer:
        decoder = self._model_text().tokenizer if self._has_text else None
        if params.stop and decoder is None:
            raise ValueError("Stop strings need a model with a tokenizer.")
        if not params.min_tokens <= params.max_tokens or params.max_tokens < 1:
            raise ValueError("max_tokens must be at least 1, and not smaller than min_tokens.")
        self._made += 1
        submission = LocalSubmission(
            id=f"offline/{self._made}",
            prompt_ids=ids,
            max_tokens=params.max_tokens,
            grant=params.max_tokens,
            sampling=params,
            logprobs=params.logprobs,
            adapter=adapter,
            constraint=params.constraint,
            thinking=params.thinking,
            prediction_ids=self._predicted(params.prediction),
        )
        try:
            request = request_make(submission, self._parts.config, time.monotonic())
            constraint_attach(request, submission, self._parts.config, self._parts.grammars)
        except (IntakeError, ConstraintError) as error:
            raise ValueError(str(error)) from None
        return OpenAnswer(index, request, params, decoder)

    def _run(self, answers: list[OpenAnswer], progress: bool | None) -> list[Completion]:
        self.timing = Timing()
        began_s = time.perf_counter()
        self._open = {answer.request.id: answer for answer in answers}
        try:
            for answer in answers:
                refused = self._parts.scheduler.add(answer.request, time.monotonic())
                if refused is not None:
                    self._take(refused, None)
            with Progress(len(answers), progress) as bar:
                while self._open:
                    self._step()
                    bar.show(done=len(answers) - len(self._open), tokens=self.timing.output_tokens)
        finally:
            for request_id in list(self._open):
                self._parts.scheduler.cancel(request_id)
            self._open.clear()
        self.timing.wall_s = time.perf_counter() - began_s
        self.timing.first_token_s = [
            math.nan if answer.first_token_s is None else answer.first_token_s - began_s for answer in answers
        ]
        return [answer.completion() for answer in answers]

    def _step(self) -> None:
        timing = self.timing
        began_s, made = time.perf_counter(), timing.output_tokens
        plan = self._loop.step(time.monotonic())
        if plan is None:
            raise RuntimeError("requests are left, but nothing can run")
        took_s = time.perf_counter() - began_s
        timing.steps += 1
        read = _prompt_tokens(plan)
        if read:
            timing.prefill_s += took_s
            timing.prefill_tokens += read
        else:
            timing.decode_s += took_s
            timing.decode_tokens += timing.output_tokens - made

    def _take(self, outcome: Outcome, draw: Draw | None) -> None:
        if outcome.request.embeds:
            ticket_of(outcome.request).tell(outcome)
            return
        answer = self._open.get(outcome.request.id)
        if answer is None:
            return
        self.timing.output_tokens += outcome.token is not None
        if answer.accept(outcome, draw):
            self._parts.scheduler.cancel(outcome.request.id)
        if answer.finish:
            del self._open[outcome.request.id]

    def _predicted(self, prediction: str | Sequence[int]) -> list[int]:
        if isinstance(prediction, str):
            return self._tokenize([prediction], add_special_tokens=False)[0] if prediction else []
        return list(prediction)

    def _encode(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        encoded = iter(self._tokenize(texts, add_special_tokens=True)) if texts else iter(())
        return [next(encoded) if isinstance(prompt, str) else list(prompt) for prompt in prompts]

    def _tokenize(self, texts: Sequence[str], *, add_special_tokens: bool) -> list[list[int]]:
        tokenizer = self._model_text().tokenizer
        found = tokenizer.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [list(one.ids) for one in found]

    def _model_text(self) -> ModelText:
        """Read when it is first needed: prompts of token ids need no tokenizer. Raises ModelTextError."""
        if self._text is None:
            self._text = model_text_load(self._folder)
        return self._text


def _prompt_tokens(plan: StepPlan) -> int:
    return sum(max(0, min(row.start + row.count, row.request.prompt_len) - row.start) for row in plan.rows)
