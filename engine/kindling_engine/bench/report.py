"""A full run's figures as files: JSON for programs, a Markdown table for people."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from kindling_engine.bench.figures import Figures, Value, shown
from kindling_engine.bench.lora_chart import lora_chart

# Beside the sources, where the project's figures are kept; a machine without the checkout gets them where it is.
_DOCS = Path(__file__).resolve().parents[3] / "docs" / "benchmarks"
DEFAULT_FOLDER = _DOCS if _DOCS.is_dir() else Path()

_ABOUT = {
    "engine": """W1: 8 concurrent requests, 128 tokens in, 128 out. W2: one request, 128 in, 128 out. W3: 64 requests,
512 shared and 32 own tokens in, 32 out. Greedy, exactly so many tokens, prompts that nobody has seen before. Everybody
loads the same random checkpoint, runs in a process of its own, and takes turns; figures are medians. A peer that a
trial of a quarter of the length found 1.5 times slower than the best is not run at full length; its row says so.
llama.cpp is its server, compiled for this processor, with eight slots and prefixes kept; OpenVINO GenAI keeps prefixes
too; both take part if --peers has installed them and if the tokens they choose are transformers' choice as well. Rows
named bf16: our engine on a checkpoint in bf16, as most are, taking turns with itself on fp32; nothing is rounded. Rows
named fp16 and int8wo: with the weights made smaller. Their kl_nats and top1_flips
are KL(fp32 ‖ the form) per token and the share of tokens whose best successor changes, teacher-forced: on random tokens
for the bench's random model, whose best tokens win by next to nothing, and on dialogues for the starter model (spark).
Rows named batch_invariant: our engine in that mode, taking turns with the ordinary one; a price is the share of the
speed that is lost.""",
    "lora": """32 requests at once over 0 (the base alone) to many adapters of rank 8 on q and v. A fraction is one of
decode tokens per second, the median over rounds in which both took turns; beside it the byte floor: what is left of the
base's speed if a step takes as much longer as reading its adapters once takes at the measured bandwidth. Fractions are
void unless base_vs_engine, the core with adapters beside the engine that the engine bench runs, is 0.95 or more.
enabled_unused: base rows alone with eight adapters in memory and with none, with the 95 % interval of the pairs. zipf:
a stream with 32 requests under way, on adapters drawn by Zipf's law, beside the same on one. thrash: 64 requests on 64
adapters where memory holds 8, beside memory for all. PEFT: generate with an adapter name for each row. warm_swap: an
adapter that was in memory before, back from scratch; cold_load: the first time, checks and all.""",
    "spec": """One engine, random weights of the small shape, each load with guesses and without in turns; decode tokens
per second, medians over the pairs. ngram: a request whose prompt holds ngram_quoted_share of its answer, none of it
predicted by the client. edits: a prediction that is the answer but for one token in ten, each replaced by another.
new_text: answers in which nothing repeats, as many at once as the row says, with the mean ratio and its 95 % interval;
slowdown_worst_load is how much longer the worst of them took with guesses switched on. acceptance: the share of guessed
tokens that were right. same_answers: the share of answers that were the same with guesses and without; sums of other
shapes round otherwise, but in the batch-invariant mode.""",
    "structured": """487 real JSON schemas (a sample of JSONSchemaBench), each either enforced or refused by keyword.
The rows named llguidance are the grammar library's own bindings in a bare loop over the same schemas and instances. A
mask is one token's; a compilation includes the first mask, and with us the walk over the schema and the check that the
front repeats. The last rows: a decode step of eight rows of the small shape with this vocabulary, and what filling,
unpacking and applying the masks of all eight adds. One thread.""",
}

_CHARTS = {"lora": lora_chart}


def report_write(figures: Figures, name: str, device: str, folder: Path, *, flags: str = "") -> None:
    """Write ``<name>-<device>.json`` and ``.md``; ``flags`` are those of the command beside the device."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{name}-{device}"
    stem.with_suffix(".json").write_text(json.dumps(figures.values, indent=1) + "\n")
    picture = ""
    if name in _CHARTS:
        # Beside the other pictures of the docs; elsewhere beside the figures.
        docs = folder.resolve() == _DOCS
        images = _DOCS.parent / "images" if docs else folder
        (images / f"{stem.name}.svg").write_text(_CHARTS[name](figures.values))
        picture = f"{'../images/' if docs else ''}{stem.name}.svg"
    stem.with_suffix(".md").write_text(_markdown(figures.values, name, device, flags, picture))
    print(f"wrote {stem}.json and .md", file=sys.stderr)


def _markdown(values: Mapping[str, Value], name: str, device: str, flags: str, picture: str) -> str:
    lines = [f"# {name.capitalize()} on {device}", ""]
    if name in _ABOUT:
        lines += [_ABOUT[name], ""]
    if picture:
        lines += [f"![{name.capitalize()} on {device}]({picture})", ""]
    lines += [
        f"Command: `./kindling bench {name} --device {device}{flags} --json`",
        "",
        "| figure | value |",
        "|---|---|",
    ]
    lines += [f"| {label} | {shown(value)} |" for label, value in _rows(values)]
    return "\n".join(lines) + "\n"


def _rows(values: Mapping[str, Value], above: str = "") -> Iterator[tuple[str, Value]]:
    for label, value in values.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{above}{label} · ")
        elif label == "curve" and isinstance(value, list):
            for point in value:
                yield (
                    f"{point['adapters']} adapters",
                    f"{point['tok_s']:,.0f} tok/s, {point['fraction_of_base']:.3f} of the base "
                    f"(byte floor {point['byte_floor']:.3f})",
                )
        else:
            yield above + label, value
