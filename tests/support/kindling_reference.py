"""Greedy answers of transformers and PEFT for the starter model, as far as fp32 leaves no doubt."""

from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from kindling_engine.starter import ADAPTER_PATHS, SPARK_PATH

RELATIVE_TOLERANCE = 1e-4


class Reference:
    """The base and both sample adapters in one PEFT model."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(SPARK_PATH)
        base = AutoModelForCausalLM.from_pretrained(SPARK_PATH, dtype=torch.float32)
        self.eos = set(base.generation_config.eos_token_id or []) if isinstance(
            base.generation_config.eos_token_id, list
        ) else {base.generation_config.eos_token_id}  # fmt: skip
        names = sorted(ADAPTER_PATHS)
        self.model = PeftModel.from_pretrained(base, ADAPTER_PATHS[names[0]], adapter_name=names[0])
        for name in names[1:]:
            self.model.load_adapter(ADAPTER_PATHS[name], adapter_name=name)
        self.model.eval()

    @torch.inference_mode()
    def greedy(self, adapter: str, prompt: str, *, max_tokens: int) -> tuple[str, str]:
        """The greedy answer, and its beginning up to the first token whose lead over the second best is
        within twice the tolerance (beyond that point either choice is right)."""
        ids = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt"
        )
        ids = ids["input_ids"] if hasattr(ids, "keys") else ids
        start, certain = ids.shape[1], None
        for _ in range(max_tokens):
            logits = self._logits(adapter, ids)
            best = torch.topk(logits, 2).values
            if certain is None and float(best[0] - best[1]) <= 2 * RELATIVE_TOLERANCE * float(
                logits.abs().max()
            ):
                certain = ids.shape[1]
            token = int(logits.argmax())
            if token in self.eos:
                break
            ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
        answer = ids[0, start:].tolist()
        sure = answer if certain is None else answer[: certain - start]
        return self._text(answer), self._text(sure).rstrip("\ufffd")

    def _logits(self, adapter: str, ids: torch.Tensor) -> torch.Tensor:
        if not adapter:
            with self.model.disable_adapter():
                return self.model(ids).logits[0, -1]
        self.model.set_adapter(adapter)
        return self.model(ids).logits[0, -1]

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))
