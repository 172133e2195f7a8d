"""The serving bench runs to its end and names every figure it promises."""

import json
import subprocess
import sys

import pytest

FIGURES = {
    "start_s", "one_stream_tok_s", "one_stream_ttft_ms", "eight_streams_tok_s", "eight_streams_ttft_ms",
    "front_cpu_ms_per_stream", "idle_cpu_ms_per_s", "front_rss_mb",
}  # fmt: skip


@pytest.mark.long
def test_the_serving_bench_gives_its_figures():
    ran = subprocess.run(
        [sys.executable, "-m", "kindling_engine", "bench", "serve", "--quick", "--json", "--device", "cpu"],
        capture_output=True,
        text=True,
        timeout=170,
        check=True,
    )
    values = json.loads(ran.stdout.splitlines()[-1])
    assert set(values) >= FIGURES
    assert all(values[name] > 0 for name in FIGURES - {"idle_cpu_ms_per_s"})


def test_an_unknown_bench_or_verb_is_refused():
    for arguments in (["bench", "nothing"], ["fly"], []):
        ran = subprocess.run(
            [sys.executable, "-m", "kindling_engine", *arguments], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 2
        assert "usage" in ran.stderr
