"""PEFT's mixed batches as a peer: ``generate`` with an adapter's name for each row."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kindling_engine.bench.run import Run, outputs_of


class PeftSubject:
    """transformers' model with every adapter of a folder in memory."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        import peft
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        self._torch = torch
        base: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        names = settings["names"]
        adapters = Path(settings["adapters"])
        self._model = peft.PeftModel.from_pretrained(base, adapters / names[0], adapter_name=names[0])
        for name in names[1:]:
            self._model.load_adapter(adapters / name, adapter_name=name)
        self._model.eval()
        # No end token: exactly as many tokens as asked for.
        base.generation_config.eos_token_id = None

    def facts(self) -> dict[str, Any]:
        return {}

    def run(
        self,
        prompts: list[list[int]],
        output: int | list[int],
        *,
        threads: int,
        mode: str = "",
        adapters: Sequence[str] = (),
    ) -> Run:
        """Prompts of one length, each with its adapter."""
        del mode
        torch = self._torch
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        ids = torch.tensor(prompts)
        length = outputs_of(prompts, output)[0]
        began, cpu_began = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            made = self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                adapter_names=list(adapters),
                max_new_tokens=length,
                do_sample=False,
                pad_token_id=0,
            )
        wall_s = time.perf_counter() - began
        tokens = int(made.shape[0] * (made.shape[1] - ids.shape[1]))
        if tokens != len(prompts) * length:
            raise RuntimeError(f"{tokens} tokens came instead of {len(prompts) * length}")
        return Run(wall_s, tokens, cpu_s=time.process_time() - cpu_began)


def peft_prepare() -> Callable[[Path, dict[str, Any]], Any]:
    """Import what the first use would import."""
    import peft
    import transformers

    _ = peft.PeftModel, transformers.LlamaForCausalLM
    return PeftSubject
