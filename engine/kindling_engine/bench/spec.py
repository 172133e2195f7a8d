"""What guessing tokens ahead is worth: for answers that quote, for edits of what is known, and where nothing repeats.

Random weights at a high temperature draw what their seed says, nearly whatever stands before. So an answer that is
drawn once and put into the prompt is quoted the next time, but for a token here and there, as a document is by an
assistant that edits it.
"""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from kindling_engine.bench.contest import say
from kindling_engine.bench.figures import BenchOptions, DeviceMissingError, Figures, Value, circumstances
from kindling_engine.bench.paired import ratio_interval
from kindling_engine.bench.shapes import SMALL, LlamaShape, checkpoint_write
from kindling_engine.bench.spec_ours import Ask, Guesser
from kindling_engine.sampling.params import SamplingParams

_PROMPT = 64
_HOT = 4.0
_OFTEN = 4
_EDITED = 0.1
"""Of the tokens of a prediction those that the answer does not have."""


@dataclass(frozen=True, slots=True)
class Setup:
    """``length`` is of an answer, a quarter of that of a new text. Each load runs ``pairs`` times with guesses and
    without, in turns, those with few new texts more often; these are written ``new_rows`` at a time.
    """

    shape: LlamaShape
    length: int
    pairs: int
    new_rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Medians over the pairs, and the ratio of each; ``same`` of its answers are the same with guesses and without."""

    tok_s: float
    plain_tok_s: float
    ratios: list[float]
    acceptance: float | None
    same: list[bool]


def spec_measure(options: BenchOptions) -> Figures:
    """Raises DeviceMissingError for a GPU, whose engines do not guess."""
    if options.on_cuda:
        raise DeviceMissingError("Engines guess tokens ahead on a CPU alone; run this with --device cpu.")
    setup = Setup(SMALL.cut(8), 64, 3, (1, 8)) if options.quick else Setup(SMALL, 192, 5, (1, 8, 32))
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as name:
        say(f"writing a random checkpoint of {setup.shape.parameters / 1e6:.0f} M parameters")
        checkpoint_write(setup.shape, Path(name))
        return Figures(
            {**circumstances(), "device": "cpu", "layers": setup.shape.num_hidden_layers}
            | _measure(setup, Path(name))
        )


def _measure(setup: Setup, folder: Path) -> dict[str, Value]:
    ours = Guesser(folder, kv_tokens=40 * (_PROMPT + 2 * setup.length), max_batch=64)
    ours.answer([_new(ours, 0)], 8, guesses=True)
    quoting, quoted = _quoting(ours, setup)
    quotes = _pairs(ours, [[quoting]] * setup.pairs, setup, "quotes")
    edits = _pairs(ours, [[_edit(ours, setup, seed)] for seed in range(setup.pairs)], setup, "edits")
    values: dict[str, Value] = {
        "ngram_speedup_b1": median(quotes.ratios),
        "ngram_quoted_share": quoted,
        "ngram_tok_s_b1": quotes.tok_s,
        "acceptance": quotes.acceptance,
        "edits_tok_s_b1": edits.tok_s,
        "edits_speedup_b1": median(edits.ratios),
        "edits_acceptance": edits.acceptance,
        "plain_tok_s_b1": edits.plain_tok_s,
    }
    worst, same = 1.0, [*quotes.same, *edits.same]
    for rows in setup.new_rows:
        count = setup.pairs * max(1, _OFTEN // rows)
        loads = [[_new(ours, 1000 * pair + row) for row in range(rows)] for pair in range(count)]
        new = _pairs(ours, loads, replace(setup, length=setup.length // 4), f"new text, {rows} at once")
        ratio, low, high = ratio_interval(new.ratios)
        name = f"new_text_b{rows}"
        values |= {f"{name}_tok_s": new.tok_s, f"{name}_ratio": ratio}
        values |= {f"{name}_ratio_low": low, f"{name}_ratio_high": high}
        worst, same = min(worst, ratio), [*same, *new.same]
    return {**values, "slowdown_worst_load": 1.0 / worst, "same_answers": sum(same) / len(same)}


def _pairs(ours: Guesser, loads: Sequence[Sequence[Ask]], setup: Setup, name: str) -> Outcome:
    """Each load with guesses and without; who begins takes turns."""
    runs: dict[bool, list[float]] = {True: [], False: []}
    drafted, guessed, same = 0, 0, list[bool]()
    for index, load in enumerate(loads):
        made = {}
        for guesses in (index % 2 == 0, index % 2 == 1):
            made[guesses] = ours.answer(load, setup.length, guesses=guesses)
            runs[guesses].append(made[guesses].tok_s)
        drafted, guessed = drafted + made[True].drafted, guessed + made[True].guessed
        same += [one == other for one, other in zip(made[True].tokens, made[False].tokens, strict=True)]
        say(f"{name}: {made[True].tok_s:,.0f} tok/s with guesses, {made[False].tok_s:,.0f} without")
    ratios = [on / off for on, off in zip(runs[True], runs[False], strict=True)]
    acceptance = guessed / drafted if drafted else None
    return Outcome(median(runs[True]), median(runs[False]), ratios, acceptance, same)


def _new(ours: Guesser, seed: int) -> Ask:
    """Text that nobody has seen: nothing in it repeats."""
    return Ask(_prompt(ours, seed), SamplingParams(temperature=1.0, seed=seed))


def _quoting(ours: Guesser, setup: Setup) -> tuple[Ask, float]:
    """A request whose prompt holds most of its answer, and how much of it."""
    prompt, params = _prompt(ours, 7), SamplingParams(temperature=_HOT, seed=7)
    (answer,) = ours.answer([Ask(prompt, params)], setup.length, guesses=False).tokens
    quoting = Ask([*prompt, *answer, *prompt], params)
    (again,) = ours.answer([quoting], setup.length, guesses=False).tokens
    return quoting, sum(one == other for one, other in zip(answer, again, strict=True)) / len(answer)


def _edit(ours: Guesser, setup: Setup, seed: int) -> Ask:
    """A request with a prediction that is its answer but for one token in ten."""
    prompt, params = _prompt(ours, seed), SamplingParams(temperature=1.0, seed=seed)
    (answer,) = ours.answer([Ask(prompt, params)], setup.length, guesses=False).tokens
    dice = random.Random(seed)  # noqa: S311
    edited = [dice.randrange(ours.vocab_size) if dice.random() < _EDITED else token for token in answer]
    return Ask(prompt, params, tuple(edited))


def _prompt(ours: Guesser, seed: int) -> list[int]:
    dice = random.Random(f"prompt {seed}")  # noqa: S311
    return [dice.randrange(3, ours.vocab_size) for _ in range(_PROMPT)]
