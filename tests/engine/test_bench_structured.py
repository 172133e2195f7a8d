"""The parts of the bench of constrained output."""

import numpy as np
import pytest

from kindling_engine.bench.structured import Costs, structured_measure
from kindling_engine.bench.structured_sample import END, BenchVocabulary, sample_load
from kindling_engine.bench.structured_vocab import SIZE, SPECIAL, vocabulary_make


def test_the_vocabulary_is_always_the_same_and_has_every_byte_once():
    tokens = vocabulary_make()
    assert tokens == vocabulary_make()
    assert len(tokens) == len(set(tokens)) == SIZE
    assert {bytes([value]) for value in range(256)} <= set(tokens)
    assert tokens[END] == SPECIAL[1].encode()


def test_it_writes_every_text_of_the_sample():
    vocabulary = BenchVocabulary()
    for schema in sample_load()[::20]:
        for text, _ in schema.instances:
            assert b"".join(vocabulary.tokens[token] for token in vocabulary(text)) == text.encode()


def test_figures_are_means_and_tails():
    figures = Costs(kept=3, mask_us=[1.0] * 99 + [101.0], compile_ms=[2.0, 4.0]).figures(4)
    assert figures["enforced_share"] == 0.75
    assert figures["mask_mean_us"] == pytest.approx(2.0)
    assert figures["mask_p99_us"] == pytest.approx(float(np.percentile([1.0] * 99 + [101.0], 99)))
    assert figures["compile_mean_ms"] == 3.0


@pytest.mark.long
def test_the_quick_run_has_all_its_figures():
    from kindling_engine.bench.figures import BenchOptions
    from kindling_engine.starter import SPARK_PATH

    values = structured_measure(BenchOptions(SPARK_PATH, "cpu", quick=True)).values
    assert values["enforced_share"] > values["llguidance"]["enforced_share"]
    assert 0 < values["mask_share_of_step"] < 1
