"""transformers as a peer: its ``generate`` over a batch, and its continuous batching. It also judges other peers.

It loads the checkpoint that ours loads, and makes exactly as many tokens, greedily.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kindling_engine.bench.run import Run, outputs_of

GENERATE, CONTINUOUS = "generate", "continuous"


class TransformersSubject:
    """A model of transformers, with its own SDPA attention."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        self._torch, self._transformers = torch, transformers
        self._device = settings["device"]
        self._kv_tokens = settings["kv_tokens"]
        dtype = torch.bfloat16 if self._device == "cuda" else torch.float32
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self._model = model.to(self._device)
        # No end token: exactly as many tokens as asked for, without a processor that forbids it at each step.
        self._model.generation_config.eos_token_id = None

    def facts(self, mode: str = "") -> dict[str, Any]:
        del mode
        return {}

    def run(self, prompts: list[list[int]], output: int | list[int], *, threads: int, mode: str) -> Run:
        outputs = outputs_of(prompts, output)
        torch = self._torch
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        self._synchronize()
        began, cpu_began = time.perf_counter(), time.process_time()
        make = self._generate if mode == GENERATE else self._continuous
        made = make(prompts, max(outputs))
        self._synchronize()
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        if made != len(prompts) * max(outputs):
            raise RuntimeError(f"{made} tokens came instead of {len(prompts) * max(outputs)}")
        # One length for all is the only way it has; what goes beyond a request's own length is no use to anybody.
        return Run(wall_s, sum(outputs), cpu_s=cpu_s)

    def logits(self, prompt: list[int]) -> Any:
        """Logits ``[n, vocab]`` of every token of a prompt, in fp32."""
        torch = self._torch
        with torch.inference_mode():
            return self._model(torch.tensor([prompt], device=self._device)).logits[0].float()

    def deficit(self, prompts: list[list[int]], made: list[list[int]]) -> float:
        """How far the worst of the tokens that somebody made lies below the token with the largest logit there.

        Each token is judged after those that were made before it, so one choice between near equals does not spoil
        the rest. The end token is out of the contest: some engines forbid it in order to go on.
        """
        torch = self._torch
        worst = 0.0
        for prompt, tokens in zip(prompts, made, strict=True):
            ids = torch.tensor([prompt + tokens], device=self._device)
            with torch.inference_mode():
                logits = self._model(ids).logits[0, len(prompt) - 1 : -1].float()
                chosen = logits.gather(1, ids[0, len(prompt) :, None])[:, 0]
                logits[:, self._model.config.eos_token_id] = -torch.inf
                worst = max(worst, float((logits.amax(1) - chosen).max()))
        return worst

    def _generate(self, prompts: list[list[int]], output: int) -> int:
        torch = self._torch
        # Left padding, as a batch of chats would need it; the loads here have equal lengths, so there is none.
        longest = max(map(len, prompts))
        ids = torch.tensor(
            [[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=self._device
        )
        seen = torch.tensor(
            [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=self._device
        )
        if self._model.config._attn_implementation != "sdpa":
            self._model.set_attn_implementation("sdpa")
        with torch.inference_mode():
            out = self._model.generate(
                ids,
                attention_mask=seen,
                max_new_tokens=output,
                do_sample=False,
                pad_token_id=0,
            )
        return int(out.shape[0] * (out.shape[1] - longest))

    def _continuous(self, prompts: list[list[int]], output: int) -> int:
        config = self._transformers.GenerationConfig(
            max_new_tokens=output, do_sample=False, eos_token_id=-1, pad_token_id=0
        )
        batching = self._transformers.ContinuousBatchingConfig(page_size=32, num_blocks=self._kv_tokens // 32)
        results = self._model.generate_batch(
            prompts, generation_config=config, continuous_batching_config=batching, progress_bar=False
        )
        return sum(len(result.generated_tokens) for result in results.values())

    def _synchronize(self) -> None:
        if self._device == "cuda":
            self._torch.cuda.synchronize()


def transformers_prepare() -> Callable[[Path, dict[str, Any]], Any]:
    """Import what the first use would import; that is not the model's memory, nor its time."""
    import torch
    import transformers

    del torch
    _ = transformers.AutoModelForCausalLM, transformers.LlamaForCausalLM, transformers.GenerationConfig
    return TransformersSubject
