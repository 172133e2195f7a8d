"""What Prometheus is told: figures that agree with what was asked for, and nothing about who asked what."""

from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from kindling_engine_process import EngineProcess, wait_until


def scrape(engine: EngineProcess) -> dict[tuple[str, str], float]:
    reply = httpx.get(f"{engine.url}/metrics", timeout=10)
    assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/plain")
    return {
        (
            sample.name.removeprefix("kindling_engine_"),
            sample.labels.get("finish", sample.labels.get("le", "")),
        ): (sample.value)
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def test_figures_agree_with_the_requests_and_name_nobody(tmp_path: Path):
    with EngineProcess(tmp_path) as engine:
        for probe in ("healthz", "readyz", "livez"):
            assert httpx.get(f"{engine.url}/{probe}", timeout=10).status_code == 200
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
        assert found["time_to_first_token_seconds_count", ""] == found["inter_token_seconds_count", ""] == 2
        assert (
            found["prompt_tokens_total", ""] - before["prompt_tokens_total", ""] == 2 * usage["prompt_tokens"]
        )
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        assert 0 < cached == found["cached_tokens_total", ""] - before["cached_tokens_total", ""]
        assert found["kv_blocks", ""] > 0 == found["kv_blocks_used", ""] == found["requests_running", ""]
        text = httpx.get(f"{engine.url}/metrics", timeout=10).text
        assert not any(word in text for word in ("pomegranate", "org_secret", "5a"))
