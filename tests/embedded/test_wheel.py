"""A built wheel, installed apart from this checkout, starts: nothing it needs was left behind."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and with the packages of this one behind it."""
    folder = tmp_path_factory.mktemp("wheel")
    # Started by root, the database runs as another account, which must reach the programs in here.
    folder.chmod(0o755)
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)])
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv/bin/python"
    site = folder / "venv/lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "--no-deps",
            "--no-index",
            str(wheel),
        ]
    )
    # A path line adds a folder without running the .pth files in it, so the checkout stays out of sight.
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(argv: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **settings)  # type: ignore[call-overload]
    assert done.returncode == 0, (argv, done.stdout[-2000:], done.stderr[-4000:])
    return done


def clean_env() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("KINDLING_", "DJANGO_"))
    }


def test_wheel_holds_every_package_with_its_files(wheel_python: Path, tmp_path: Path):
    program = """
import importlib.util, json, pathlib, sys
names = ["kindling_platform", "kindling_billing", "kindling_console", "kindling_workers", "kindling_engine"]
roots = [pathlib.Path(importlib.util.find_spec(name).submodule_search_locations[0]) for name in names]
files = [str(p.relative_to(r.parent)) for r in roots for p in r.rglob("*") if p.is_file() and p.suffix != ".pyc"]
print(json.dumps({"roots": [str(r) for r in roots], "files": files}))
"""
    seen = json.loads(run([str(wheel_python), "-c", program], env=clean_env(), cwd=tmp_path).stdout)
    assert all(root.startswith(str(wheel_python.parents[1])) for root in seen["roots"])
    tracked = run(
        ["git", "ls-files", "-z", "--cached", "platform", "billing", "console", "workers", "engine"], cwd=ROOT
    ).stdout.split("\0")
    wanted = {name.split("/", 1)[1] for name in tracked if name.count("/") >= 2 and (ROOT / name).exists()}
    assert wanted - set(seen["files"]) == set()


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_wheel_starts_and_bills_its_first_token(wheel_python: Path, tmp_path: Path):
    argv = [str(wheel_python), "-m", "kindling_platform.cli", "up", "--check", "--json"]
    done = run(argv, env=clean_env(), cwd=tmp_path, timeout=280)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) == {"install_s", "start_s", "first_token_s", "second_start_s"}
    assert 0 < figures["first_token_s"] <= figures["start_s"]
    assert figures["second_start_s"] > 0
