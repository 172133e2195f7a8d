"""Compiled grammars: shared, bounded, and made off the caller's thread."""

import json
import random
import threading

import pytest
from llguidance import LLParserLimits

from kindling_engine.constraints import grammar
from kindling_engine.constraints.base import Behind, ConstraintError, mask_make
from kindling_engine.constraints.cache import GrammarCache
from kindling_engine.constraints.grammar import CompiledGrammar, GrammarCompiler, GrammarConstraint
from kindling_engine.constraints.tokenizer import UNAVAILABLE, grammar_tokenizer_load
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


class Gated:
    """Compiles when it may, and notes in which order."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.may = threading.Semaphore(0)
        self.order: list[str] = []

    def compile(self, kind: str, text: str) -> CompiledGrammar:
        self.order.append(text)
        self.begun.release()
        assert self.may.acquire(timeout=60)
        return compiler().compile(kind, text)


def test_a_withdrawn_ticket_gets_no_answer_and_only_what_has_begun_is_compiled():
    gated, woken = Gated(), threading.Semaphore(0)
    cache = GrammarCache(gated, wake=woken.release)
    for text in ("a+", "b+", "c+"):
        cache.acquire("regex", text, text)
        assert text != "a+" or gated.begun.acquire(timeout=60)
    for text in ("a+", "b+"):
        cache.withdraw(text)
    gated.may.release(2)
    for _ in range(2):
        assert woken.acquire(timeout=60)
    assert [one.ticket for one in cache.poll()] == ["c+"]
    assert gated.order == ["a+", "c+"]
    assert cache.acquire("regex", "a+", "later") is not None
    assert cache.waiting == 0 and not cache._waiting


def test_whoever_asks_for_many_grammars_delays_others_by_one():
    gated, woken = Gated(), threading.Semaphore(0)
    cache = GrammarCache(gated, wake=woken.release)
    many = [f"a{{{number}}}" for number in range(1, 9)]
    for text in many:
        cache.acquire("regex", text, text, owner="flood")
    assert gated.begun.acquire(timeout=60)
    for owner, text in (("quiet", "q+"), ("quiet", many[6]), ("other", "o+"), ("other", many[0])):
        cache.acquire("regex", text, f"{owner} {text}", owner=owner)
    gated.may.release(10)
    for _ in range(10):
        assert woken.acquire(timeout=60)
    assert gated.order == [many[0], "q+", "o+", many[1], many[6], *many[2:6], many[7]]
    assert [one.ticket for one in cache.poll() if one.ticket in (many[0], f"other {many[0]}")] == [
        many[0],
        f"other {many[0]}",
    ]
    assert cache.waiting == 0


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


def test_a_tokenizer_that_was_saved_with_padding_or_truncation_cuts_and_fills_nothing(tmp_path):
    fields = json.loads((SPARK_PATH / "tokenizer.json").read_text())
    fields["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    fields["padding"] = {
        "strategy": {"Fixed": 32}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": EOS,
        "pad_type_id": 0, "pad_token": "<|endoftext|>",
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(fields))
    saved = grammar_tokenizer_load(tmp_path, vocab_size=VOCAB, eos_ids=[EOS])
    plain = grammar_tokenizer_load(SPARK_PATH, vocab_size=VOCAB, eos_ids=[EOS])
    text = '{"the name of the fox": "Ann, who lives in the wood", "age": 12}'
    assert saved.tokenize_str(text) == plain.tokenize_str(text) == encode(text)


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


def _walk(constraint: GrammarConstraint, rng: random.Random, steps: int) -> None:
    for _ in range(steps):
        may = sorted(allowed(constraint) - {EOS})
        constraint.accept(rng.choice(may))


def test_texts_that_wear_a_grammar_out_end_nobodys(monkeypatch: pytest.MonkeyPatch):
    few = LLParserLimits(max_lexer_states=300)
    monkeypatch.setattr(grammar, "limits", lambda: few)
    shared = GrammarCache(compiler(), wake=lambda: None).compile("regex", "[ab]*a[ab]{12}x")
    rng, patient = random.Random(1), shared.start()
    _walk(patient, rng, 3)
    for _ in range(60):
        _walk(shared.start(), rng, 10)
        constraint = shared.start()
        token = min(allowed(constraint))
        assert constraint.allowed([token]) == 1
        Behind(constraint, [token]).fill(mask_make(VOCAB))
    assert shared._generation > 0, "they have worn nothing out"
    _walk(patient, rng, 5)
    assert len(patient._taken) == 8


def test_a_text_that_wears_it_out_alone_ends(monkeypatch: pytest.MonkeyPatch):
    few = LLParserLimits(max_lexer_states=300)
    monkeypatch.setattr(grammar, "limits", lambda: few)
    constraint = GrammarCache(compiler(), wake=lambda: None).compile("regex", "[ab]*a[ab]{12}x").start()
    rng, letters = random.Random(1), [encode("aa")[-1], encode("ab")[-1]]
    with pytest.raises(ConstraintError) as caught:
        for _ in range(2000):
            allowed(constraint)
            constraint.accept(rng.choice(letters))
    assert caught.value.code == "constraint_dead_end"
    with pytest.raises(ConstraintError):
        allowed(constraint)
