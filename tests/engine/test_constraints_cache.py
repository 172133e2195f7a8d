"""Compiled grammars: shared, bounded, and made off the caller's thread."""

import random
import threading

import pytest
from llguidance import LLParserLimits

from kindling_engine.constraints import grammar
from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.cache import GrammarCache
from kindling_engine.constraints.grammar import CompiledGrammar, GrammarCompiler
from kindling_engine.constraints.tokenizer import UNAVAILABLE
from kindling_engine.starter import SPARK_PATH
from kindling_grammars import EOS, VOCAB, accepts, allowed, compiler, encode


class Settling:
    """A cache whose answers can be waited for."""

    def __init__(self, **bounds: int) -> None:
        self._woken = threading.Semaphore(0)
        self.cache = GrammarCache(compiler(), wake=self._woken.release, **bounds)

    def settle(self) -> list:
        assert self._woken.acquire(timeout=60)
        return self.cache.poll()


def test_a_grammar_is_compiled_once_and_shared():
    settling = Settling()
    assert settling.cache.acquire("regex", "a+", "one") is None
    assert settling.cache.acquire("regex", "a+", "two") is None
    assert settling.cache.waiting == 2
    settled = settling.settle()
    assert [one.ticket for one in settled] == ["one", "two"]
    assert isinstance(settled[0].result, CompiledGrammar)
    assert settled[0].result is settled[1].result is settling.cache.acquire("regex", "a+", "three")
    assert settling.cache.compile("regex", "a+") is settled[0].result
    assert settling.cache.waiting == 0


def test_a_failure_answers_its_tickets_and_is_tried_again():
    settling = Settling()
    for _ in range(2):
        assert settling.cache.acquire("regex", "(", "one") is None
        (settled,) = settling.settle()
        assert isinstance(settled.result, ConstraintError)
        assert settled.result.code == "invalid_schema"


def test_a_withdrawn_ticket_gets_no_answer():
    settling = Settling()
    settling.cache.acquire("regex", "b+", "one")
    settling.cache.withdraw("one")
    assert settling.settle() == []
    assert settling.cache.acquire("regex", "b+", "two") is not None


def test_the_least_recently_used_grammar_goes():
    cache = GrammarCache(compiler(), wake=lambda: None, max_grammars=2)
    first = cache.compile("regex", "a")
    cache.compile("regex", "b")
    assert cache.compile("regex", "a") is first
    cache.compile("regex", "c")
    assert cache.compile("regex", "a") is first
    assert len(cache) == 2


def test_grammars_are_bounded_in_bytes():
    cache = GrammarCache(compiler(), wake=lambda: None, max_bytes=350_000)
    for letter in "abcdef":
        cache.compile("regex", letter)
    assert len(cache) == 3


def test_requests_follow_one_grammar_apart():
    grammar = compiler().compile("regex", "ab|cd")
    one, other = grammar.start(), grammar.start()
    one.accept(encode("a")[0])
    assert {encode("b")[0]} == allowed(one)
    assert encode("c")[0] in allowed(other)
    assert accepts(grammar, "ab")


def test_padding_is_never_allowed():
    padded = GrammarCompiler(SPARK_PATH, vocab_size=VOCAB + 77, eos_ids=[EOS]).compile("regex", "(?s:.*)")
    may = allowed(padded.start(), VOCAB + 77)
    assert max(may) < VOCAB
    assert EOS in may


def test_a_model_with_fewer_rows_than_its_tokenizer_is_kept_to_them():
    small = GrammarCompiler(SPARK_PATH, vocab_size=1000, eos_ids=[EOS]).compile("regex", "[a-z ]*")
    assert max(allowed(small.start(), 1000)) < 1000


@pytest.mark.parametrize("content", [None, "{}", '{"model": {"type": "Strange"}}', "\xff"])
def test_a_tokenizer_that_is_missing_or_strange_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ConstraintError) as caught:
        GrammarCompiler(tmp_path, vocab_size=100, eos_ids=[1]).compile("regex", "a")
    assert caught.value.code == UNAVAILABLE


def test_a_finished_text_may_only_end():
    constraint = compiler().compile("regex", "ab?").start()
    constraint.accept(encode("a")[0])
    assert allowed(constraint) == {EOS, encode("b")[0]}
    assert not constraint.finished
    constraint.accept(encode("b")[0])
    assert constraint.finished
    assert allowed(constraint) == {EOS}


def test_a_token_that_the_grammar_does_not_allow_is_an_error():
    constraint = compiler().compile("regex", "ab").start()
    with pytest.raises(ConstraintError) as caught:
        constraint.accept(encode("z")[0])
    assert caught.value.code == "constraint_dead_end"
    with pytest.raises(ConstraintError):
        allowed(constraint)


def test_a_grammar_that_its_texts_have_worn_out_is_compiled_anew(monkeypatch: pytest.MonkeyPatch):
    few = LLParserLimits(max_lexer_states=120)
    monkeypatch.setattr(grammar, "limits", lambda: few)
    cache = GrammarCache(compiler(), wake=lambda: None)
    text = "[ab]*a[ab]{12}x"
    first = cache.compile("regex", text)
    rng = random.Random(1)

    def walk() -> None:
        constraint = first.start()
        while may := sorted(allowed(constraint) - {EOS}):
            constraint.accept(rng.choice(may))
            if constraint.finished:
                break

    with pytest.raises(ConstraintError) as caught:
        for _ in range(20):
            walk()
    assert caught.value.code == "constraint_dead_end"
    again = cache.compile("regex", text)
    assert again is not first and again.begins() and len(cache) == 1
    assert cache.compile("regex", text) is again
