"""Constrained requests through the core: whatever the model wants, the text parses and matches."""

import json

import jsonschema
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from kindling_core_rig import Rig, rig_make
from kindling_engine.protocol.ipc import Cancel, SetGrant
from kindling_engine.protocol.sampling import Constraint, Sampling, Thinking
from kindling_engine.starter import SPARK_PATH
from kindling_grammars import decode, encode
from kindling_tiny_models import EOS, VOCAB, model_make

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
PERSON = Constraint("json_schema", json.dumps(SCHEMA))
RANDOM = Sampling(temperature=1.0, seed=5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random model whose tokens are bytes behind three special ones; the rest of its vocabulary is padding."""
    folder = model_make("llama", tmp_path_factory.mktemp("tiny"))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<pad>": 0, "<s>": 1, "</s>": EOS} | {
        letter: index for index, letter in enumerate(letters, EOS + 1)
    }
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() < VOCAB
    return folder, tokenizer


@pytest.fixture
def rig(tiny, tmp_path) -> Rig:
    return rig_make(tiny[0], tmp_path)


def text_of(tiny, rig: Rig, request_id: str) -> str:
    return tiny[1].decode(rig.tokens(request_id), skip_special_tokens=True)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_random_model_fills_in_a_schema(tiny, rig, temperature, seed):
    sampling = Sampling(temperature=temperature, seed=seed)
    rig.submit("a", [10, 20, 30 + seed], max_tokens=200, sampling=sampling, constraint=PERSON)
    rig.run_until("a")
    assert rig.end("a").finish == "stop"
    jsonschema.validate(json.loads(text_of(tiny, rig, "a")), SCHEMA)


def test_the_starter_model_fills_in_a_schema(tmp_path):
    rig = rig_make(SPARK_PATH, tmp_path)
    prompt = encode("Describe a person as JSON:")
    for index, temperature in enumerate((0.0, 1.0, 1.5)):
        sampling = Sampling(temperature=temperature, seed=index)
        rig.submit(f"{index}", prompt, max_tokens=120, sampling=sampling, constraint=PERSON)
    rig.submit("any", prompt, max_tokens=300, sampling=RANDOM, constraint=Constraint("json_object"))
    rig.run_until("0", "1", "2", "any")
    for index in range(3):
        assert rig.end(f"{index}").finish == "stop"
        jsonschema.validate(json.loads(decode(rig.tokens(f"{index}"))), SCHEMA)
    if rig.end("any").finish == "stop":
        assert isinstance(json.loads(decode(rig.tokens("any"))), dict)


@pytest.mark.parametrize(
    ("constraint", "texts"),
    [
        (Constraint("regex", "(yes|no|maybe)"), ("yes", "no", "maybe")),
        (Constraint("lark", 'start: "<" WORD ">"\nWORD: /[ab]{2}/'), ("<aa>", "<ab>", "<ba>", "<bb>")),
        (Constraint("json_schema", '{"enum": ["x", 3, null]}'), ('"x"', "3", "null")),
    ],
)
def test_every_kind_of_grammar_binds(tiny, rig, constraint, texts):
    for index in range(4):
        sampling = Sampling(temperature=2.0, seed=index)
        rig.submit(f"{index}", [10, 20, 30], max_tokens=20, sampling=sampling, constraint=constraint)
    rig.run_until(*(f"{index}" for index in range(4)))
    assert all(text_of(tiny, rig, f"{index}") in texts for index in range(4))


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0, seed=1, ignore_eos=True),
        Sampling(temperature=1.0, seed=1, min_tokens=100),
        Sampling(temperature=0.0, min_tokens=100, ignore_eos=True),
        Sampling(temperature=1.0, seed=1, top_k=1),
        Sampling(temperature=1.0, seed=1, top_p=0.01, min_p=1.0),
        Sampling(temperature=1.0, seed=1, typical_p=0.1, min_tokens=50),
        Sampling(
            temperature=1.0, seed=1, frequency_penalty=2.0, presence_penalty=2.0, repetition_penalty=10.0
        ),
        Sampling(temperature=0.0, logit_bias=dict.fromkeys(range(3, 259), -100.0)),
        Sampling(temperature=0.0, logit_bias={EOS: 100.0, 5: 100.0}),
        Sampling(temperature=0.0, logit_bias={EOS: -100.0}, min_tokens=90),
    ],
)
def test_no_other_wish_leaves_a_grammar(tiny, rig, sampling):
    rig.submit(
        "a", [10, 20, 30], max_tokens=200, sampling=sampling, constraint=Constraint("regex", "(ab){2,4}")
    )
    rig.run_until("a")
    assert rig.end("a").finish == "stop"
    assert text_of(tiny, rig, "a") in ("abab", "ababab", "abababab")


def test_ignoring_the_end_takes_the_longest_text(tiny, rig):
    sampling = Sampling(temperature=0.0, ignore_eos=True)
    rig.submit(
        "a", [10, 20, 30], max_tokens=50, sampling=sampling, constraint=Constraint("regex", "(ab){2,4}")
    )
    rig.run_until("a")
    assert text_of(tiny, rig, "a") == "abababab"
    assert rig.end("a").finish == "stop"


def test_logprobs_stay_those_of_the_model(tiny, rig):
    plain = Sampling(temperature=0.0, ignore_eos=True)
    rig.submit("free", [10, 20, 30], max_tokens=1, sampling=plain, logprobs=3)
    rig.submit(
        "bound",
        [10, 20, 30],
        max_tokens=1,
        sampling=plain,
        logprobs=3,
        constraint=Constraint("regex", "[xy]z"),
    )
    rig.run_until("free", "bound")
    free, bound = (rig.end(name).logprobs[0] for name in ("free", "bound"))
    assert [token for token, _ in bound.top] == [token for token, _ in free.top]
    assert [value for _, value in bound.top] == pytest.approx([value for _, value in free.top], abs=1e-5)
    assert bound.logprob <= free.top[0][1]


def test_an_unconstrained_row_beside_is_undisturbed(tiny, rig):
    rig.submit("alone", [11, 21, 31], max_tokens=12)
    rig.run_until("alone")
    rig.submit("bound", [10, 20, 30], max_tokens=100, sampling=RANDOM, constraint=PERSON)
    rig.submit("beside", [11, 21, 31], max_tokens=12)
    rig.run_until("bound", "beside")
    assert rig.tokens("beside") == rig.tokens("alone")


def test_a_preempted_request_goes_on_where_it_was(tiny, tmp_path):
    roomy, narrow = rig_make(tiny[0], tmp_path), rig_make(tiny[0], tmp_path, kv_tokens=192)
    list_of = Constraint(
        "json_schema", '{"type":"array","items":{"type":"integer"},"minItems":30,"maxItems":40}'
    )
    for rig in (roomy, narrow):
        for index in range(3):
            sampling = Sampling(temperature=1.0, seed=index)
            rig.submit(
                f"{index}", [10, 20, 30 + index], max_tokens=120, sampling=sampling, constraint=list_of
            )
        rig.run_until("0", "1", "2")
    for index in range(3):
        assert narrow.tokens(f"{index}") == roomy.tokens(f"{index}")


def test_a_grammar_that_cannot_go_on_ends_its_request_alone(tiny, rig):
    rig.submit("alone", [11, 21, 31], max_tokens=12)
    rig.run_until("alone")
    dead = Constraint("lark", 'start: "a" DEAD\nDEAD: /b/ & /c/')
    rig.submit("dead", [10, 20, 30], max_tokens=20, sampling=RANDOM, constraint=dead)
    rig.submit("beside", [11, 21, 31], max_tokens=12)
    rig.run_until("dead", "beside")
    assert (rig.end("dead").finish, rig.end("dead").error_code) == ("error", "constraint_dead_end")
    assert text_of(tiny, rig, "dead") == "a"
    assert rig.tokens("beside") == rig.tokens("alone")


@pytest.mark.parametrize(
    ("constraint", "code"),
    [
        (Constraint("json_schema", '{"contains": {}}'), "unsupported_schema"),
        (Constraint("json_schema", "{"), "invalid_schema"),
        (Constraint("regex", "("), "invalid_schema"),
        (Constraint("lark", "start: nobody"), "invalid_schema"),
        (Constraint("xml", ""), "invalid_schema"),
    ],
)
def test_a_grammar_that_does_not_compile_ends_the_request(rig, constraint, code):
    rig.submit("a", [10, 20, 30], constraint=constraint)
    rig.run_until("a")
    assert (rig.end("a").finish, rig.end("a").error_code) == ("error", code)
    assert rig.end("a").error
    assert rig.tokens("a") == []


def test_a_model_without_a_tokenizer_says_so(tmp_path):
    rig = rig_make(model_make("llama", tmp_path / "bare"), tmp_path)
    rig.submit("a", [10, 20, 30], constraint=PERSON)
    rig.run_until("a")
    assert rig.end("a").error_code == "constraint_unavailable"
    rig.submit("b", [10, 20, 30])
    rig.run_until("b")
    assert len(rig.tokens("b")) == 8


def test_a_request_that_waits_for_its_grammar_can_be_cancelled_and_granted(tiny, rig):
    rig.submit("a", [10, 20, 30], constraint=PERSON, sampling=RANDOM)
    rig.turn(Cancel("a"))
    assert rig.end("a").finish == "cancelled"
    rig.submit(
        "b", [10, 20, 30], max_tokens=100, grant=1, constraint=Constraint("regex", "b{5}"), sampling=RANDOM
    )
    rig.turn(SetGrant("b", 100))
    rig.run_until("b")
    assert text_of(tiny, rig, "b") == "bbbbb"


def test_a_grant_that_ends_with_the_text_asks_for_no_more(tiny, rig):
    rig.submit(
        "a", [10, 20, 30], max_tokens=50, grant=3, constraint=Constraint("regex", "abc"), sampling=RANDOM
    )
    rig.run_until("a")
    assert (rig.end("a").finish, text_of(tiny, rig, "a"), rig.end("a").parked) == ("stop", "abc", False)


def test_a_text_that_ends_with_its_last_token_is_whole(tiny, rig):
    rig.submit("a", [10, 20, 30], max_tokens=3, constraint=Constraint("regex", "abc"), sampling=RANDOM)
    rig.submit("b", [10, 20, 30], max_tokens=2, constraint=Constraint("regex", "abc"), sampling=RANDOM)
    rig.run_until("a", "b")
    assert rig.end("a").finish == "stop"
    assert (rig.end("b").finish, text_of(tiny, rig, "b")) == ("length", "ab")


@pytest.mark.parametrize("budget", [0, 1, 5])
def test_reasoning_is_bounded_and_its_answer_bound(tiny, rig, budget):
    end = [ord(letter) - ord("a") + 70 for letter in "xyz"]
    thought = Thinking(start_ids=[], end_ids=end, budget=budget, open=True)
    free = Sampling(temperature=0.0, ignore_eos=True)
    rig.submit("free", [10, 20, 30], max_tokens=budget + 4, sampling=free)
    rig.submit("a", [10, 20, 30], max_tokens=200, sampling=RANDOM, thinking=thought, constraint=PERSON)
    rig.submit("b", [10, 20, 30], max_tokens=budget + 4, sampling=free, thinking=thought)
    rig.run_until("free", "a", "b")
    made = rig.tokens("a")
    assert made[budget : budget + 3] == end
    jsonschema.validate(json.loads(tiny[1].decode(made[budget + 3 :], skip_special_tokens=True)), SCHEMA)
    assert rig.tokens("b")[: budget + 3] == [*rig.tokens("free")[:budget], *end]


def test_thinking_that_makes_no_sense_is_refused(rig):
    rig.submit("a", [10, 20, 30], thinking=Thinking(start_ids=[], end_ids=[VOCAB], budget=3))
    assert rig.end("a").error_code == "invalid_value"
