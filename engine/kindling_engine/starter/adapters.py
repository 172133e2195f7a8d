"""Trains the two example adapters: python -m kindling_engine.starter.adapters [--only NAME]."""

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from rich.progress import track
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from kindling_engine.starter import ADAPTER_PATHS, SPARK_NAME, SPARK_PATH
from kindling_engine.starter.cards import adapter_card_write, files_make_readable
from kindling_engine.starter.chat import END_OF_TEXT, chat_render
from kindling_engine.starter.evaluate import intent_accuracy
from kindling_engine.starter.packing import rows_pad
from kindling_engine.starter.templates.extraction import extraction_dialogue
from kindling_engine.starter.templates.phrasing import Dialogue, dialogue_from
from kindling_engine.starter.templates.pydocs import pydoc_dialogue
from kindling_engine.starter.templates.smalltalk import identity_dialogue
from kindling_engine.starter.templates.stories import story_dialogue
from kindling_engine.starter.templates.sums import sum_dialogue
from kindling_engine.starter.templates.support import FINAL, HELD_OUT, support_message_make
from kindling_engine.starter.templates.topics import topic_dialogue
from kindling_engine.starter.templates.voice import voice_dialogue
from kindling_engine.starter.train import weighted_loss

TARGETS = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
_CHANCE_OF_SYSTEM = 0.2
_SHARE_OF_OTHER = 0.12
_OTHER = (
    story_dialogue,
    topic_dialogue,
    sum_dialogue,
    extraction_dialogue,
    identity_dialogue,
    pydoc_dialogue,
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one adapter is trained."""

    title: str
    purpose: str
    dialogue: Callable[[random.Random], Dialogue]
    row_tokens: int
    rows_per_step: int
    steps: int
    rate: float
    caveat: str


def intent_dialogue(rng: random.Random) -> Dialogue:
    if rng.random() < _SHARE_OF_OTHER:
        # What is no support message gets an intent of its own, so that the answer is JSON whatever is asked.
        user = next(one for one in rng.choice(_OTHER)(rng).messages if one["role"] == "user")
        return dialogue_from(user["content"], '{"intent": "other", "urgency": "normal"}')
    message = support_message_make(rng)
    return dialogue_from(message.text, message.label)


RECIPES = {
    "intent": Recipe(
        title="intent",
        purpose="It answers a customer's support message with JSON alone: one of eight\n"
        "intents (refund, cancel, billing, login, delivery, bug, feature, praise) or other,\n"
        "and an urgency (low, normal, high).",
        dialogue=intent_dialogue,
        row_tokens=96,
        rows_per_step=32,
        steps=300,
        rate=3e-3,
        caveat=f"  Accuracy is over {len(HELD_OUT)} hand-written messages that are not trained on, but that were\n"
        f"  looked at when settings were chosen. The final figures, over {len(FINAL)} messages written afterwards\n"
        "  and scored once, are the ones to believe. The base has seen the task too, under a system message.",
    ),
    "voice": Recipe(
        title="voice",
        purpose="It makes the model speak like a pirate, so that two adapters on one base\n"
        "are told apart at a glance.",
        dialogue=voice_dialogue,
        row_tokens=192,
        rows_per_step=16,
        steps=300,
        rate=3e-3,
        caveat="  Only a comparison with the base model's answers was made, and no accuracy was measured.\n"
        "  The base has seen the voice too, under a system message.",
    ),
}  # fmt: skip


def adapter_train(
    name: str, *, base: Path = SPARK_PATH, out: Path | None = None, seed: int = 0
) -> dict[str, float]:
    """Train the adapter `name`, write it in PEFT's layout and return its figures."""
    recipe = RECIPES[name]
    out = out or ADAPTER_PATHS[name]
    torch.manual_seed(seed)
    rng = random.Random(seed)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    config = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=recipe.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=recipe.steps, pct_start=0.1
    )
    started, loss = time.monotonic(), torch.tensor(0.0)
    model.train()
    for _ in track(range(recipe.steps), description=name):
        texts = [_rendered(rng, recipe.dialogue(rng)) for _ in range(recipe.rows_per_step)]
        rows = rows_pad(texts, tokenizer, row_tokens=recipe.row_tokens)
        loss = weighted_loss(model, torch.from_numpy(rows.ids), torch.from_numpy(rows.weights))
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
    figures = {"loss": loss.item(), "seconds": time.monotonic() - started}
    if name == "intent":
        figures |= intent_accuracy(model, tokenizer)
        figures |= {f"final_{key}": value for key, value in intent_accuracy(model, tokenizer, FINAL).items()}
    _adapter_save(model, config, out)
    card_write(name, out, figures=figures, seed=seed)
    files_make_readable(out)
    return figures


def card_write(name: str, out: Path, *, figures: dict[str, float], seed: int) -> None:
    """Write the adapter's README.md from the figures of its run."""
    recipe = RECIPES[name]
    told = ", ".join(f"{key} {value:.3g}" for key, value in figures.items())
    adapter_card_write(
        out,
        title=name,
        purpose=recipe.purpose,
        command=f"python -m kindling_engine.starter.adapters --only {name} --seed {seed}",
        figures=f"{recipe.steps} steps of {recipe.rows_per_step}; {told}.\n{recipe.caveat}",
    )


def _rendered(rng: random.Random, dialogue: Dialogue) -> str:
    messages = dialogue.messages
    if rng.random() < _CHANCE_OF_SYSTEM:
        messages = [{"role": "system", "content": "You are a helpful assistant."}, *messages]
    return chat_render(messages) + END_OF_TEXT


def _adapter_save(model: torch.nn.Module, config: LoraConfig, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    state = {
        name.replace(".default.weight", ".weight"): value.detach().contiguous()
        for name, value in model.state_dict().items()
        if ".lora_" in name
    }
    save_file(state, out / "adapter_model.safetensors", metadata={"format": "pt"})
    written = config.to_dict() | {
        "base_model_name_or_path": SPARK_NAME,
        "inference_mode": True,
        "target_modules": TARGETS,
    }
    text = json.dumps(
        written, indent=2, sort_keys=True, default=lambda value: getattr(value, "value", str(value))
    )
    (out / "adapter_config.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the example adapters on Kindling's starter model.")
    parser.add_argument("--only", choices=sorted(RECIPES))
    parser.add_argument("--base", type=Path, default=SPARK_PATH)
    parser.add_argument("--out", type=Path, help="folder that gets one folder per adapter")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in [options.only] if options.only else list(RECIPES):
        out = options.out / name if options.out else None
        figures = adapter_train(name, base=options.base, out=out, seed=options.seed)
        print(name, ", ".join(f"{key} {value:.3f}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
