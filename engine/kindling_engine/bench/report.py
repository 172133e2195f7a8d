"""A full run's figures as files: JSON for programs, a Markdown table for people."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from kindling_engine.bench.figures import Figures, Value, shown

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
named fp16 and int8wo: our engine with smaller weights, taking turns with itself on fp32. Their kl_nats and top1_flips
are KL(fp32 ‖ the form) per token and the share of tokens whose best successor changes, teacher-forced: on random tokens
for the bench's random model, whose best tokens win by next to nothing, and on dialogues for the starter model (spark).
Rows named batch_invariant: our engine in that mode, taking turns with the ordinary one; a price is the share of the
speed that is lost.""",
    "structured": """487 real JSON schemas (a sample of JSONSchemaBench), each either enforced or refused by keyword.
The rows named llguidance are the grammar library's own bindings in a bare loop over the same schemas and instances. A
mask is one token's; a compilation includes the first mask, and with us the walk over the schema and the check that the
front repeats. The last rows: a decode step of eight rows of the small shape with this vocabulary, and what filling,
unpacking and applying the masks of all eight adds. One thread.""",
}


def report_write(figures: Figures, name: str, device: str, folder: Path, *, flags: str = "") -> None:
    """Write ``<name>-<device>.json`` and ``.md``; ``flags`` are those of the command beside the device."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{name}-{device}"
    stem.with_suffix(".json").write_text(json.dumps(figures.values, indent=1) + "\n")
    stem.with_suffix(".md").write_text(_markdown(figures.values, name, device, flags))
    print(f"wrote {stem}.json and .md", file=sys.stderr)


def _markdown(values: Mapping[str, Value], name: str, device: str, flags: str) -> str:
    lines = [f"# {name.capitalize()} on {device}", ""]
    if name in _ABOUT:
        lines += [_ABOUT[name], ""]
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
        else:
            yield above + label, value
