"""The house keeps its shape: source roots, file sizes, no package where one would shadow another."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = {
    "platform": "kindling_platform",
    "billing": "kindling_billing",
    "console": "kindling_console",
    "workers": "kindling_workers",
    "engine": "kindling_engine",
}
TOP_LEVEL = {
    *SOURCE_ROOTS,
    *("tests", "deploy", "docs", "kindling", "pyproject.toml", "README.md", "CHANGELOG.md"),
    *("LICENSE", "NOTICE", "SECURITY.md"),
}
MAX_LINES = 400


def tracked(*patterns: str) -> list[Path]:
    out = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [ROOT / name for name in out.split("\0") if name and (ROOT / name).exists()]


def test_top_level_holds_the_agreed_entries_only():
    seen = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in seen if not name.startswith(".")} <= TOP_LEVEL


@pytest.mark.parametrize(("folder", "package"), SOURCE_ROOTS.items())
def test_each_source_root_holds_one_distinctly_named_package(folder: str, package: str):
    assert not (ROOT / folder / "__init__.py").exists()
    packages = [p.name for p in (ROOT / folder).iterdir() if (p / "__init__.py").exists()]
    assert packages == [package]


def test_tests_are_not_a_package():
    assert [p for p in tracked("tests") if p.name == "__init__.py"] == []


def test_no_source_file_outgrows_one_idea():
    long = {}
    for path in tracked("*.py"):
        if {"migrations", "vendor"} & set(path.parts):
            continue
        lines = len(path.read_text().splitlines())
        if lines > MAX_LINES:
            long[str(path.relative_to(ROOT))] = lines
    assert long == {}


def test_nothing_imports_both_torch_and_django():
    both = []
    for path in tracked("*.py"):
        names, text = set(), path.read_text()
        if "torch" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
        if "torch" in names and names & {"django", "rest_framework", "celery"}:
            both.append(str(path.relative_to(ROOT)))
    assert both == []
