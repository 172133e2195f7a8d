"""The offline engine says what the server says, and needs none of the server's libraries."""

import math
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kindling_engine.llm import LLM, SamplingParams
from kindling_engine.lora.errors import AdapterError
from kindling_engine.starter import ADAPTER_PATHS, SPARK_PATH
from kindling_engine_process import EngineProcess, ask
from kindling_tiny_models import VOCAB, model_make

PROMPTS = ["I want a refund", "The fox and the", "Once upon a time"]


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM(SPARK_PATH, threads=1, kv_tokens=16_384)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    process = EngineProcess(tmp_path_factory.mktemp("engine"), **{"kv-tokens": 16_384})
    for name in ADAPTER_PATHS:
        process.add_adapter(name)
    with process:
        yield process


@pytest.fixture(scope="module")
def tokens_only(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    folder = model_make("llama", tmp_path_factory.mktemp("tiny"))
    return LLM(folder, threads=1, kv_tokens=2048, max_batch=8, speculation="off")


def complete(engine: EngineProcess, prompt: str, **fields) -> dict:
    body = {"model": "kindling/spark", "prompt": prompt, **fields}
    reply = httpx.post(f"{engine.url}/v1/completions", json=body, headers=engine.headers(), timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.0},
        {"temperature": 0.9, "top_p": 0.9, "seed": 11},
        {"temperature": 0.8, "seed": 3, "stop": ["e"], "frequency_penalty": 0.5},
    ],
    ids=["greedy", "seeded", "stopped"],
)
def test_completions_equal_the_servers(llm: LLM, engine: EngineProcess, fields):
    params = SamplingParams(max_tokens=24, logprobs=2, **fields)
    for prompt, completion in zip(PROMPTS, llm.generate(PROMPTS, params), strict=True):
        said = complete(engine, prompt, max_tokens=24, logprobs=2, **fields)
        (choice,), usage = said["choices"], said["usage"]
        assert (completion.text, completion.finish) == (choice["text"], choice["finish_reason"])
        assert (completion.prompt_tokens, len(completion.token_ids)) == (
            usage["prompt_tokens"],
            usage["completion_tokens"],
        )
        mine = [one.logprob for one in completion.logprobs]
        theirs = choice["logprobs"]["token_logprobs"]
        assert mine[: len(theirs)] == pytest.approx(theirs, abs=1e-4)


def test_chats_and_adapters_equal_the_servers(llm: LLM, engine: EngineProcess):
    messages = [{"role": "user", "content": "Where is my parcel?"}]
    name, folder = sorted(ADAPTER_PATHS.items())[0]
    for adapter, headers in ((None, {}), (folder, {"adapter": engine_hash(name)})):
        (mine,) = llm.chat(messages, SamplingParams(temperature=0, max_tokens=24), adapter=adapter)
        reply = engine.chat(**ask(messages=messages, max_tokens=24), headers=headers)
        assert mine.text == reply.json()["choices"][0]["message"]["content"]
    base, other = llm.chat([messages, messages], SamplingParams(temperature=0, max_tokens=24))
    assert base.text == other.text


def engine_hash(name: str) -> str:
    import hashlib

    return hashlib.sha256(name.encode()).hexdigest()


def test_answers_come_in_order_and_do_not_depend_on_their_neighbours(tokens_only: LLM):
    prompts = [[5 + index] * (3 + 7 * index) for index in range(12)]
    params = [SamplingParams(seed=index, max_tokens=4 + index, ignore_eos=True) for index in range(12)]
    together = tokens_only.generate(prompts, params)
    assert [len(one.token_ids) for one in together] == [4 + index for index in range(12)]
    for index in (0, 5, 11):
        (alone,) = tokens_only.generate([prompts[index]], params[index])
        assert alone.token_ids == together[index].token_ids
    assert together[3].text == ""


def test_the_time_of_a_run_is_told_by_prefill_and_decode(tokens_only: LLM):
    prompts = [[index + 40, *range(10, 50)] for index in range(4)]
    done = tokens_only.generate(prompts, SamplingParams(temperature=0, max_tokens=6, ignore_eos=True))
    timing = tokens_only.timing
    assert (timing.output_tokens, timing.decode_tokens, timing.steps) == (24, 20, 6)
    assert timing.prefill_tokens == sum(41 - one.cached_tokens for one in done)
    assert 0 < timing.prefill_s + timing.decode_s <= timing.wall_s
    assert len(timing.first_token_s) == 4 and max(timing.first_token_s) < timing.wall_s


def test_a_prediction_changes_nothing_but_the_steps(llm: LLM):
    (plain,) = llm.generate([PROMPTS[1]], SamplingParams(temperature=0, max_tokens=60, ignore_eos=True))
    for prediction in (plain.text, plain.token_ids, "nothing of the kind", ""):
        params = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True, prediction=prediction)
        for _ in range(5):
            (again,) = llm.generate([PROMPTS[1]], params)
            assert again.token_ids == plain.token_ids
    # Whether a guess is worth its try is a matter of what steps took lately: on a busy machine now and then.
    params = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True, prediction=plain.token_ids)
    assert any(llm.generate([PROMPTS[1]], params) and llm.timing.steps < 60 for _ in range(50))


def test_a_prompt_that_does_not_fit_ends_alone(tokens_only: LLM):
    good, bad = tokens_only.generate([[7, 8], [9] * 600], SamplingParams(max_tokens=2))
    assert len(good.token_ids) in (1, 2) and not good.error
    assert bad.finish == "error" and "600 tokens" in bad.error
    assert math.isnan(tokens_only.timing.first_token_s[1])


def test_a_text_is_one_prompt_and_one_stop_string(llm: LLM):
    params = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True)
    (whole,) = llm.generate(PROMPTS[0], params)
    assert whole == llm.generate([PROMPTS[0]], params)[0]
    stop = whole.text[10:14]
    for given in (stop, [stop], (stop,)):
        (cut,) = llm.generate(
            PROMPTS[0], SamplingParams(temperature=0, max_tokens=30, ignore_eos=True, stop=given)
        )
        assert cut.text == whole.text[: whole.text.index(stop)] and cut.finish == "stop"
    for empty in ("", ["x", ""]):
        with pytest.raises(ValueError, match="empty"):
            SamplingParams(stop=empty)


def test_what_cannot_be_asked_for_is_refused_before_anything_runs(tokens_only: LLM, llm: LLM):
    for params in (
        SamplingParams(temperature=math.nan),
        SamplingParams(logit_bias={VOCAB: 1.0}),
        SamplingParams(max_tokens=0),
        SamplingParams(max_tokens=3, min_tokens=4),
    ):
        with pytest.raises(ValueError):
            tokens_only.generate([[1, 2]], params)
    with pytest.raises(ValueError, match="prompt_ids"):
        tokens_only.generate([[VOCAB]])
    with pytest.raises(ValueError, match="2 prompts"):
        tokens_only.generate([[1], [2]], [SamplingParams()])
    with pytest.raises(ValueError, match="tokenizer"):
        tokens_only.generate([[1]], SamplingParams(stop=["x"]))
    with pytest.raises(ValueError, match="role"):
        llm.chat([{"role": "wizard", "content": "x"}])
    with pytest.raises(AdapterError):
        llm.generate(["x"], adapter=Path("nowhere"))
    assert llm.generate(["x"], SamplingParams(max_tokens=1))[0].token_ids


def test_a_progress_bar_goes_to_the_terminal(llm: LLM, capsys: pytest.CaptureFixture[str]):
    llm.generate(["x", "y"], SamplingParams(max_tokens=2, ignore_eos=True), progress=True)
    seen = capsys.readouterr()
    assert "2/2" in seen.err and not seen.out
