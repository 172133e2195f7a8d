"""Guessed tokens in a real engine: the same answers to the last bit, in fewer steps."""

from pathlib import Path
from typing import Any

import pytest

from kindling_backend_models import backend_model_make
from kindling_core_rig import Rig, rig_make
from kindling_engine.protocol.ipc import SetGrant
from kindling_engine.protocol.sampling import Constraint, Sampling, Thinking
from kindling_engine.protocol.speculation_modes import AUTO
from kindling_engine.starter import SPARK_PATH
from kindling_invariance import SAMPLED, adapter_pin, told
from kindling_parity import prompt_make
from kindling_tiny_models import adapter_make, model_make

LENGTH = 60
KINDS = {
    "greedy": Sampling(temperature=0.0, ignore_eos=True),
    "held": Sampling(
        temperature=1.0, seed=9, min_tokens=30, stop_token_ids=[*range(3, 90)], logit_bias={5: 4.0, 9: -3.0}
    ),
    **SAMPLED,
}
# A sliding window and a softcap, experts, and modules of transformers' own.
MODELS = ("llama", "gemma2", "qwen3-moe", "Olmo2ForCausalLM")


@pytest.fixture(scope="module", params=MODELS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    make = backend_model_make if request.param.endswith("LM") else model_make
    return Path(make(request.param, tmp_path_factory.mktemp(request.param)))


def _rig(folder: Path, blobs: Path, **options: Any) -> Rig:
    """A core whose guesses do not depend on how fast this machine is just now: rows cost little."""
    rig = rig_make(folder, blobs, kv_tokens=4096, **{"speculation": AUTO, **options})
    speculator = rig.core._parts.speculator
    if speculator is not None:
        for rows in (1, 128):
            speculator.timed(rows, 0.01)
        speculator.timed = lambda rows, seconds: None
    return rig


def _ask(rig: Rig, name: str, kind: str, **fields: Any) -> None:
    rig.submit(name, prompt_make(40, 7), max_tokens=LENGTH, sampling=KINDS[kind], logprobs=2, **fields)


def _with_edits(tokens: list[int]) -> list[int]:
    """A prediction that is wrong here and there: other tokens, one too many and one too few."""
    edited = [1 if place % 13 == 9 else token for place, token in enumerate(tokens)]
    return [*edited[:20], 3, *edited[20:40], *edited[41:]]


@pytest.fixture(scope="module")
def plain(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """A core that guesses nothing, and has answered one by one."""
    rig = _rig(
        folder, tmp_path_factory.mktemp("plain"), batch_invariant=_is_invariant(folder), speculation="off"
    )
    for kind in KINDS:
        _ask(rig, kind, kind)
        rig.run_until(kind)
    return rig


def _is_invariant(folder: Path) -> bool:
    return not folder.name.startswith("Olmo2")


@pytest.mark.parametrize(
    "together", [pytest.param(False, marks=pytest.mark.long), True], ids=["alone", "together"]
)
def test_answers_have_the_same_bits_with_guesses_and_without(
    folder: Path, plain: Rig, tmp_path: Path, together: bool
):
    invariant = _is_invariant(folder)
    guessing = _rig(folder, tmp_path, batch_invariant=invariant)
    for kind in KINDS:
        _ask(guessing, kind, kind, prediction_ids=_with_edits(plain.tokens(kind)))
        if not together:
            guessing.run_until(kind)
    guessing.run_until(*KINDS)
    for kind in KINDS:
        assert guessing.tokens(kind) == plain.tokens(kind), kind
        assert not invariant or told(guessing, kind) == told(plain, kind), kind
        end = guessing.end(kind)
        # What a penalty does to a token depends on those before it.
        assert end is not None and (end.guessed > 5) == (kind != "penalised"), kind
        assert end.guessed <= end.drafted
    stats = guessing.core._current_stats()
    assert (
        stats.drafted_tokens == sum(guessing.end(kind).drafted for kind in KINDS) >= stats.guessed_tokens > 0
    )
    assert guessing.core._steps < plain.core._steps
    assert plain.core._parts.speculator is None and all(one.drafted == 0 for one in plain.items())


@pytest.mark.parametrize("invariant", [False, True])
def test_adapters_in_company_are_guessed_for_too(tmp_path: Path, invariant: bool):
    folder = model_make("llama", tmp_path / "model")
    adapters = {
        name: adapter_make(folder, tmp_path / name, seed=rank, r=rank, target_modules="all-linear")
        for name, rank in (("a", 4), ("b", 8))
    }
    made: dict[str, list[int]] = {}
    for speculation in ("off", "auto"):
        rig = _rig(folder, tmp_path, batch_invariant=invariant, speculation=speculation)
        for name, path in adapters.items():
            adapter_pin(rig.core._parts, name, path)
        for name in ("", "a", "b"):
            _ask(
                rig,
                f"of {name}",
                "greedy",
                adapter=name,
                prediction_ids=_with_edits(made.get(f"of {name}", [])),
            )
        rig.run_until("of ", "of a", "of b")
        found = {f"of {name}": rig.tokens(f"of {name}") for name in ("", "a", "b")}
        assert not made or found == made
        made = found
    assert len({tuple(tokens) for tokens in made.values()}) == 3
    assert all(rig.end(name).guessed > 5 for name in made)


def test_a_request_never_makes_more_than_its_grant(tmp_path: Path):
    folder = model_make("llama", tmp_path / "model")
    plain = _rig(folder, tmp_path, speculation="off")
    _ask(plain, "a", "greedy")
    plain.run_until("a")
    whole = plain.tokens("a")
    rig = _rig(folder, tmp_path)
    _ask(rig, "a", "greedy", grant=7, prediction_ids=whole)
    rig.wait(lambda: len(rig.tokens("a")) >= 7)
    rig.turn()
    assert rig.tokens("a") == whole[:7]
    rig.turn(SetGrant("a", 30))
    rig.wait(lambda: len(rig.tokens("a")) >= 30)
    rig.turn()
    assert rig.tokens("a") == whole[:30]
    rig.turn(SetGrant("a", 99))
    rig.run_until("a")
    assert rig.tokens("a") == whole and rig.end("a").finish == "length"


# Without white space, of which a model of this size makes plenty where it may.
RECORD = (
    r'\{"intent": "(refund|shipping)", "confidence": [1-3], '
    r'"customer": \{"identifier": "(first|second)", "nickname": "[a-z]{1,5}"\}\}'
)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("predicted", [False, True])
def test_what_a_grammar_leaves_open_is_drawn_as_without_guesses(
    tmp_path: Path, temperature: float, predicted: bool
):
    made: dict[str, list[Any]] = {}
    for speculation in ("off", "auto"):
        rig = _rig(SPARK_PATH, tmp_path, batch_invariant=True, speculation=speculation)
        for seed in range(3):
            rig.submit(
                f"{seed}",
                prompt_make(20, seed),
                max_tokens=90,
                sampling=Sampling(temperature=temperature, seed=seed),
                logprobs=1,
                constraint=Constraint(kind="regex", text=RECORD),
                prediction_ids=[token for token, _ in made.get(f"{seed}", [])] if predicted else [],
            )
        rig.wait(lambda rig=rig: all(rig.end(f"{seed}") for seed in range(3)))
        found = {f"{seed}": told(rig, f"{seed}") for seed in range(3)}
        assert not made or found == made
        made, ends = found, [rig.end(f"{seed}") for seed in range(3)]
    # Names of keys have to come, most of them of several tokens.
    assert all(end.guessed >= 10 and end.guessed >= 0.8 * end.drafted for end in ends)
    assert {end.finish for end in ends} == {"stop"}


# Those that the library cannot take back, and one that it can.
GRAMMARS = {
    "max_tokens": 'start: "say " t "."\nt[max_tokens=12]: /[a-z ]*/',
    "token": 'start: <[5]> "ab" <[6]> /[a-z]{1,20}/',
    "tokens": 'start: "ab" <[5-7]> "cd" <[8]> /[a-z]{1,20}/',
    "suffix": 'start: "say " t "."\nt[suffix="!"]: /[a-z ]{1,30}/',
}


def test_grammars_that_cannot_be_taken_back_bind_as_without_guesses(tmp_path: Path):
    made: dict[str, list[Any]] = {}
    for speculation in ("off", "auto"):
        rig = _rig(SPARK_PATH, tmp_path, batch_invariant=True, speculation=speculation)
        for name, text in GRAMMARS.items():
            rig.submit(
                name,
                prompt_make(20, 1),
                max_tokens=60,
                sampling=Sampling(temperature=1.0, seed=1),
                logprobs=1,
                constraint=Constraint(kind="lark", text=text),
                prediction_ids=[token for token, _ in made.get(name, [])],
            )
            rig.run_until(name)
            assert rig.end(name).finish == "stop", rig.end(name).error
        found = {name: told(rig, name) for name in GRAMMARS}
        assert not made or found == made
        made = found
    assert {name for name in GRAMMARS if rig.end(name).drafted} == {"suffix"}


@pytest.mark.parametrize("requests", ["a", "ab"])
def test_a_step_that_fails_for_its_guesses_is_run_without(tmp_path: Path, requests: str):
    folder = model_make("llama", tmp_path / "model")
    plain = _rig(folder, tmp_path, speculation="off")
    _ask(plain, "a", "greedy")
    plain.run_until("a")
    rig = _rig(folder, tmp_path)
    execute, failed = rig.core._parts.runner.execute, []

    def small(plan):
        if any(row.draft for row in plan.rows):
            failed.append(plan)
            raise MemoryError("a step with guesses needs more")
        return execute(plan)

    rig.core._parts.runner.execute = small
    for name in requests:
        _ask(rig, name, "greedy", prediction_ids=plain.tokens("a"))
    rig.run_until(*requests)
    assert all(rig.tokens(name) == plain.tokens("a") for name in requests)
    assert all(rig.end(name).finish == "length" for name in requests)
    # Whoever was in such a step is not guessed for any longer.
    assert 1 <= len(failed) <= len(requests)


def test_reasoning_and_what_is_bound_behind_it_stay_the_same(tmp_path: Path):
    made: list[Any] = []
    for speculation in ("off", "auto"):
        rig = _rig(SPARK_PATH, tmp_path, batch_invariant=True, speculation=speculation)
        rig.submit(
            "a",
            prompt_make(20, 1),
            max_tokens=90,
            sampling=Sampling(temperature=1.0, seed=5),
            logprobs=1,
            thinking=Thinking(start_ids=[], end_ids=[7, 8, 9], budget=12, open=True),
            constraint=Constraint(kind="regex", text=RECORD),
            prediction_ids=[token for token, _ in made],
        )
        rig.run_until("a")
        assert not made or told(rig, "a") == made
        made = told(rig, "a")
    assert rig.end("a").guessed > 20 and [token for token, _ in made[12:15]] == [7, 8, 9]
