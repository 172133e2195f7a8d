"""The bench of guesses, on a shape that takes no time."""

from pathlib import Path

import pytest

from kindling_engine.bench.figures import BenchOptions, DeviceMissingError
from kindling_engine.bench.shapes import LlamaShape, checkpoint_write
from kindling_engine.bench.spec import Setup, _measure, spec_measure
from kindling_engine.bench.spec_ours import Ask, Guesser
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.starter import SPARK_PATH

TINY = LlamaShape(64, 2, 4, 2, 96, 512, tie_word_embeddings=True)


def test_every_load_has_its_figures(tmp_path: Path):
    checkpoint_write(TINY, tmp_path)
    values = _measure(Setup(TINY, 24, 2, (1, 2)), tmp_path)
    for name in ("ngram_speedup_b1", "edits_tok_s_b1", "slowdown_worst_load", "new_text_b2_ratio_low"):
        assert values[name] > 0, name
    assert 0 < values["ngram_quoted_share"] <= 1 and 0.9 <= values["same_answers"] <= 1


def test_both_ways_are_timed_and_counted(tmp_path: Path):
    checkpoint_write(TINY, tmp_path)
    ours = Guesser(tmp_path, kv_tokens=512, max_batch=2)
    ask = Ask([5, 6, 7], SamplingParams(temperature=1.0, seed=1))
    plain = ours.answer([ask, ask], 30, guesses=False)
    assert [len(tokens) for tokens in plain.tokens] == [30, 30] and plain.drafted == 0 and plain.tok_s > 0


def test_a_gpu_is_refused():
    with pytest.raises(DeviceMissingError, match="--device cpu"):
        spec_measure(BenchOptions(SPARK_PATH, "cuda", quick=True))
