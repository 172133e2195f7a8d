"""`verify`: a sound checkpoint passes, any difference fails by name, and the row tells no paths."""

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from kindling_backend_models import backend_model_make
from kindling_engine.core import loops
from kindling_engine.starter import SPARK_PATH
from kindling_engine.verify import run, text
from kindling_engine.verify.command import verify
from kindling_engine.verify.logits import greedy_check, logits_check
from kindling_engine.verify.ours import Answered
from kindling_engine.verify.subject import name_and_revision
from kindling_fp8 import fp8_copy
from kindling_mxfp4 import mxfp4_folder
from kindling_tiny_models import model_make

FAST = ["--threads", "1", "--tokens", "6", "--device", "cpu"]


def answer(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
    status = verify([str(folder), *FAST, "--json", *options])
    return status, json.loads(capsys.readouterr().out)


def test_the_starter_model_is_verified_as_a_process():
    """The whole command as a user runs it: figures on standard output, progress on standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "kindling_engine", "verify", str(SPARK_PATH), *FAST, "--name", "kindling/spark"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [
        ["pass", "logits"], ["pass", "greedy"], ["pass", "tokens"], ["pass", "template"],
    ]  # fmt: skip
    today = datetime.now(UTC).date().isoformat()
    row = r"\| LlamaForCausalLM \| in the tests \| kindling/spark@[0-9a-f]{12} \(float32, Δlogit \d\.\de-\d\d\) by "
    assert re.fullmatch(row + rf"kindling verify, {today} \|", lines[-1])
    assert "kindling: loading" in done.stderr and "transformers: prompt 5 of 5" in done.stderr


def test_a_model_of_transformers_is_verified_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = backend_model_make("GPTNeoXForCausalLM", tmp_path / "secret-place", vocab_size=2048)
    for path in SPARK_PATH.iterdir():
        if path.name.startswith(("tokenizer", "chat_template", "special_tokens")):
            shutil.copy(path, folder)
    status, found = answer(capsys, folder, "--name", "acme/neo", "--by", "Acme")
    assert status == 0 and found["passed"], found["checks"]
    assert (found["decoder"], found["name"]) == ("transformers", "acme/neo")
    assert found["row"].startswith("| GPTNeoXForCausalLM | through transformers, at each start | acme/neo@")
    assert "by Acme," in found["row"]
    assert "secret-place" not in json.dumps(found) and str(tmp_path) not in json.dumps(found)


def test_experts_in_mxfp4_are_verified_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = model_make("gpt-oss", tmp_path, vocab_size=2048, intermediate_size=96, num_hidden_layers=2)
    mxfp4_folder(folder)
    for path in SPARK_PATH.iterdir():
        if path.name.startswith(("tokenizer", "chat_template", "special_tokens")):
            shutil.copy(path, folder)
    status, found = answer(capsys, folder, "--name", "acme/oss")
    assert status == 0 and found["passed"], found["checks"]
    assert found["decoder"] == "kindling" and "| GptOssForCausalLM | in the tests |" in found["row"]


@pytest.mark.parametrize(
    ("name", "kind"), [("llama", "block"), ("Olmo2ForCausalLM", "row"), ("llama", "tensor")]
)
def test_weights_in_fp8_are_verified_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str
):
    make = model_make if name == "llama" else backend_model_make
    fp8_copy(make(name, tmp_path / "plain", vocab_size=2048), tmp_path / "fp8", kind)
    for path in SPARK_PATH.iterdir():
        if path.name.startswith(("tokenizer", "chat_template", "special_tokens")):
            shutil.copy(path, tmp_path / "fp8")
    status, found = answer(capsys, tmp_path / "fp8")
    assert status == 0 and found["passed"], found["checks"]


def test_steps_as_a_gpu_runs_them_are_verified_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loops, "WORKING_APART", {"cpu"})
    status, found = answer(capsys, SPARK_PATH)
    assert status == 0 and found["passed"], found


def test_a_difference_in_the_logits_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    reference_logits = run.reference_logits

    def otherwise(*arguments: Any, **options: Any) -> list[torch.Tensor]:
        found = [tensor.clone() for tensor in reference_logits(*arguments, **options)]
        found[2][-1, 7] += 1e-3 * found[2].abs().max()
        return found

    monkeypatch.setattr(run, "reference_logits", otherwise)
    status, found = answer(capsys, SPARK_PATH)
    assert status == 1 and not found["passed"]
    assert {check["name"] for check in found["checks"] if not check["passed"]} == {"logits"}
    assert "FAILED: " in found["row"]


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (lambda theirs: setattr(theirs, "chat_template", theirs.chat_template + "{{ ' ' }}"), "template"),
        (lambda theirs: theirs.add_tokens(["2 + 2", "rivers", "cafe", "caf"]), "tokens"),
    ],
)
def test_a_difference_in_the_text_fails(
    change: Any, failing: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    load = text.tokenizer_load

    def otherwise(folder: Path) -> Any:
        theirs = load(folder)
        change(theirs)
        return theirs

    monkeypatch.setattr(run, "tokenizer_load", otherwise)
    monkeypatch.setattr(text, "TEXTS", (*text.TEXTS, "a cafe by two rivers"))
    status, found = answer(capsys, SPARK_PATH)
    assert status == 1
    assert [check["name"] for check in found["checks"] if not check["passed"]] == [failing]


def test_what_cannot_be_compared_is_said_with_its_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = Path(shutil.copytree(SPARK_PATH, tmp_path / "model"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    status, found = answer(capsys, folder)
    assert status == 2 and found["error"]["code"] == "weights_unreadable"
    (folder / "tokenizer.json").unlink()
    assert verify([str(folder), *FAST]) == 2
    assert "[tokenizer_unusable]" in capsys.readouterr().err


def test_nan_is_not_a_match():
    reference = [torch.ones(3, 5), torch.ones(2, 5)]
    ours = [tensor.clone() for tensor in reference]
    assert logits_check(ours, reference, torch.float32).passed
    ours[0][1, 1] = float("nan")
    assert not logits_check(ours, reference, torch.float32).passed
    assert not logits_check([torch.ones(3, 4), ours[1]], reference, torch.float32).passed


def test_greedy_tokens_count_only_where_the_best_is_clear():
    logits = torch.tensor([[9.0, 0, 0], [0, 5.0, 0], [1.0, 1.0 + 1e-5, 0]])
    assert greedy_check([Answered([0], [0, 1])], [logits], torch.float32).passed
    close = greedy_check([Answered([0], [0, 1, 0])], [logits], torch.float32)
    assert close.passed and close.figures == {"compared": 2, "unclear": 1}
    wrong = greedy_check([Answered([0], [0, 2])], [logits], torch.float32)
    assert not wrong.passed and "token 2: transformers takes 1, we take 2" in wrong.said


def test_the_name_and_revision_of_an_import_are_used(tmp_path: Path):
    folder = Path(shutil.copytree(SPARK_PATH, tmp_path / "folder"))
    assert name_and_revision(folder)[0] == "folder"
    before = name_and_revision(folder)[1]
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert name_and_revision(folder)[1] != before
    source = {"repo_id": "acme/small", "revision": "0123456789abcdef" * 2 + "01234567"}
    (folder / ".kindling-source.json").write_text(json.dumps(source))
    assert name_and_revision(folder) == ("acme/small", "0123456789ab")
    assert name_and_revision(folder, "other/name")[0] == "other/name"
