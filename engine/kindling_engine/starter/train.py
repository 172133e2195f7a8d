"""Trains the starter model from nothing: python -m kindling_engine.starter.train [--seconds N] [--seed 0]."""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from kindling_engine.starter import SPARK_PATH
from kindling_engine.starter.cards import base_card_write, files_make_readable
from kindling_engine.starter.chat import END_OF_TEXT, IM_END
from kindling_engine.starter.corpus import corpus_documents, corpus_hash
from kindling_engine.starter.evaluate import base_accuracy
from kindling_engine.starter.optimizer import Muon
from kindling_engine.starter.packing import PackedRows, rows_pack
from kindling_engine.starter.tokenizer import VOCABULARY, tokenizer_save, tokenizer_train

ROW_TOKENS = 512
ROWS_PER_STEP = 6
MATRIX_RATE = 0.02
OTHER_RATE = 0.004
WARM_UP_STEPS = 40
WEIGHT_OUTSIDE = 0.1
HELD_OUT_ROWS = 32
# Rows are joined in pairs at the end of the run, so that the model has seen all of its positions.
SHARE_OF_SHORT_ROWS = 0.85


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run reports: mean loss per assistant token (nats) on held-out rows, and its size."""

    loss: float
    steps: int
    tokens: int
    seconds: float


def model_make(tokenizer: Tokenizer) -> LlamaForCausalLM:
    """Build the untrained model: one million parameters in Llama's layout."""
    stop, pad = tokenizer.token_to_id(IM_END), tokenizer.token_to_id(END_OF_TEXT)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=[stop, pad],
        pad_token_id=pad,
    )
    return LlamaForCausalLM(config)


def spark_train(
    *, out: Path = SPARK_PATH, seconds: float = 560, seed: int = 0, steps: int | None = None, threads: int = 2
) -> Outcome:
    """Train tokenizer and model and write them to `out`.

    The run lasts `seconds`; give `steps` instead for a run that is the same on a fast and a slow machine.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    documents = list(corpus_documents(seed))
    tokenizer = tokenizer_train(documents[::3])
    tokenizer_save(tokenizer, out)
    rows = rows_pack(documents, tokenizer, row_tokens=ROW_TOKENS, weight_outside=WEIGHT_OUTSIDE)
    held_out = rows_pack(
        corpus_documents(seed + 1, 1_000), tokenizer, row_tokens=ROW_TOKENS, weight_outside=0.0
    )
    model = model_make(tokenizer)
    outcome = _run(model, rows, held_out, seconds=seconds, steps=steps, seed=seed)
    _model_save(model, out)
    length = f"--steps {steps}" if steps else f"--seconds {seconds:.0f}"
    base_card_write(
        out,
        command=f"python -m kindling_engine.starter.train {length} --seed {seed}",
        outcome=outcome,
        corpus_sha256=corpus_hash(documents),
        parameters=model.num_parameters(),
        figures=base_accuracy(model, tokenizer),
    )
    files_make_readable(out)
    return outcome


def weighted_loss(model: torch.nn.Module, ids: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of the next-token loss over `ids` and `weights`, both [rows, tokens]."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    wanted = weights[:, 1:].flatten()
    return (losses * wanted).sum() / wanted.sum()


def _run(
    model: LlamaForCausalLM,
    rows: PackedRows,
    held_out: PackedRows,
    *,
    seconds: float,
    steps: int | None,
    seed: int,
) -> Outcome:
    ids, weights = torch.from_numpy(rows.ids), torch.from_numpy(rows.weights)
    matrices = [one for name, one in model.named_parameters() if one.ndim == 2 and "embed" not in name]
    others = [one for name, one in model.named_parameters() if one.ndim != 2 or "embed" in name]
    muon, adam = Muon(matrices), torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    order = _shuffled(len(ids), seed)
    started, step, tokens, done = time.monotonic(), 0, 0, 0.0
    model.train()
    with Progress(*_columns()) as progress:
        bar = progress.add_task("train", total=1.0, step=0, loss=math.nan)
        while done < 1.0:
            picked = [next(order) for _ in range(ROWS_PER_STEP)]
            batch, batch_weights = ids[picked], weights[picked]
            if done > SHARE_OF_SHORT_ROWS:
                batch = batch.view(-1, 2 * ROW_TOKENS)
                batch_weights = batch_weights.view(-1, 2 * ROW_TOKENS)
            loss = weighted_loss(model, batch, batch_weights)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(others, 1.0)
            rate = min(1.0, (step + 1) / WARM_UP_STEPS) * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
            for group in adam.param_groups:
                group["lr"] = OTHER_RATE * rate
            adam.step()
            muon.step(MATRIX_RATE * rate)
            model.zero_grad(set_to_none=True)
            step += 1
            tokens += batch.numel()
            elapsed = time.monotonic() - started
            done = step / steps if steps else elapsed / seconds
            progress.update(bar, completed=done, step=step, loss=loss.item())
            if step % 100 == 0:
                progress.console.print(
                    f"step {step}  loss {loss.item():.3f}  {tokens / elapsed:,.0f} tokens/s"
                )
    final = _held_out_loss(model, held_out)
    return Outcome(loss=final, steps=step, tokens=tokens, seconds=time.monotonic() - started)


def _columns() -> tuple[ProgressColumn, ...]:
    step, loss = TextColumn("step {task.fields[step]}"), TextColumn("loss {task.fields[loss]:.3f}")
    return step, BarColumn(), loss, TimeRemainingColumn()


@torch.inference_mode()
def _held_out_loss(model: LlamaForCausalLM, rows: PackedRows) -> float:
    model.eval()
    ids, weights = torch.from_numpy(rows.ids[:HELD_OUT_ROWS]), torch.from_numpy(rows.weights[:HELD_OUT_ROWS])
    return float(weighted_loss(model, ids, weights))


def _shuffled(count: int, seed: int) -> Iterator[int]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator).tolist()


def _model_save(model: LlamaForCausalLM, out: Path) -> None:
    state = {
        name: value.detach().contiguous()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_diff_dict()
    config |= {"architectures": ["LlamaForCausalLM"], "dtype": "float32", "rope_theta": 10_000.0}
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train Kindling's starter model on this machine.")
    parser.add_argument("--out", type=Path, default=SPARK_PATH, help="folder to write")
    parser.add_argument("--seconds", type=float, default=560, help="length of the run (default 560)")
    parser.add_argument("--steps", type=int, help="stop after this many steps instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    outcome = spark_train(
        out=options.out,
        seconds=options.seconds,
        seed=options.seed,
        steps=options.steps,
        threads=options.threads,
    )
    print(
        f"held-out loss {outcome.loss:.3f} nats per assistant token after {outcome.steps} steps, "
        f"{outcome.tokens:,} tokens and {outcome.seconds:.0f} s; written to {options.out}"
    )


if __name__ == "__main__":
    main()
