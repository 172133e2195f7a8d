"""What Prometheus is told: figures that agree with what was asked for, and nothing about who asked what."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from kindling_engine.protocol.ipc import Stats
from kindling_engine.server.metrics import EngineMetrics
from kindling_engine_process import EngineProcess, wait_until


def samples(text: str) -> dict[tuple[str, str], float]:
    """Every figure by its name and by its label, if it has one."""
    return {
        (
            sample.name.removeprefix("kindling_engine_"),
            sample.labels.get("finish", sample.labels.get("le", "")),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(engine: EngineProcess) -> dict[tuple[str, str], float]:
    reply = httpx.get(f"{engine.url}/metrics", timeout=60)
    assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/plain")
    return samples(reply.text)


def test_figures_agree_with_the_requests_and_name_nobody(tmp_path: Path):
    with EngineProcess(tmp_path) as engine:
        for probe in ("healthz", "readyz", "livez"):
            assert httpx.get(f"{engine.url}/{probe}", timeout=60).status_code == 200
        wait_until(lambda: scrape(engine)["steps_total", ""] > 0)
        before = scrape(engine)
        for _ in range(2):
            reply = engine.chat(
                messages=[{"role": "user", "content": "pomegranate " * 20}],
                max_tokens=5,
                ignore_eos=True,
                headers={"tenant": "org_secret", "salt": "5a"},
            )
            assert reply.status_code == 200, reply.text
        wait_until(lambda: scrape(engine)["steps_total", ""] >= before["steps_total", ""] + 10)
        found = scrape(engine)
        usage = reply.json()["usage"]
        assert found["requests_total", "length"] == 2
        assert found["output_tokens_total", ""] == 10
        assert found["time_to_first_token_seconds_count", ""] == 2
        assert found["inter_token_seconds_count", ""] == 2 * 4
        assert (
            found["prompt_tokens_total", ""] - before["prompt_tokens_total", ""] == 2 * usage["prompt_tokens"]
        )
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        assert 0 < cached == found["cached_tokens_total", ""] - before["cached_tokens_total", ""]
        assert found["kv_blocks", ""] > 0 == found["kv_blocks_used", ""] == found["requests_running", ""]
        text = httpx.get(f"{engine.url}/metrics", timeout=60).text
        assert not any(word in text for word in ("pomegranate", "org_secret", "5a"))


def test_a_crowded_cache_shows_who_gave_way(tmp_path: Path):
    """Four answers of 200 tokens in a cache for 400: some lose their blocks and are computed again."""
    with EngineProcess(tmp_path, **{"kv-tokens": 400}) as engine:
        with ThreadPoolExecutor() as pool:
            asked = [pool.submit(engine.chat, max_tokens=200, ignore_eos=True) for _ in range(4)]
            assert {one.result().json()["usage"]["completion_tokens"] for one in asked} == {200}
        wait_until(lambda: scrape(engine)["preemptions_total", ""] > 0)
        found = scrape(engine)
        assert found["requests_total", "length"] == 4
        assert found["step_rows_total", ""] > found["steps_total", ""], "a batch had more than one row"
        assert found["inter_token_seconds_count", ""] == 4 * 199


def test_what_waits_is_told_apart_from_what_runs():
    stats = Stats(
        active=3,
        waiting=2,
        free_blocks=4,
        blocks=10,
        lent_blocks=3,
        states=5,
        state_slots=8,
        blocks_borrowed=7,
        blocks_recalled=4,
    )
    found = samples(EngineMetrics().render(stats).decode())
    assert found["requests_running", ""] == 3
    assert found["requests_waiting", ""] == 2
    assert found["kv_blocks_used", ""] == 6 and found["kv_blocks_lent", ""] == 3
    assert found["prefix_states", ""] == 5 and found["prefix_state_slots", ""] == 8
    assert (found["kv_blocks_borrowed_total", ""], found["kv_blocks_recalled_total", ""]) == (7, 4)


def test_tokens_that_come_together_share_their_time():
    metrics = EngineMetrics()
    metrics.observe_tokens(0.04, 1)
    metrics.observe_tokens(0.012, 4)
    found = samples(metrics.render(Stats(0, 0, 0)).decode())
    assert found["inter_token_seconds_bucket", "0.002"] == 0
    assert found["inter_token_seconds_bucket", "0.005"] == 4
    assert found["inter_token_seconds_bucket", "0.05"] == found["inter_token_seconds_count", ""] == 5
    assert abs(found["inter_token_seconds_sum", ""] - 0.052) < 1e-9
