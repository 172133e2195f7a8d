"""The launcher's decisions, with a Python that only writes down what it was asked to do."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAKE_PYTHON = r"""#!/bin/bash
printf '%s\n' "$*" >>"$CALLS"
site="$(dirname "$0")/../site"
case "$*" in
  *"(3, 11) <="*) exit "${FAKE_OLD:-0}" ;;
  *"print(\"%d.%d\""*) echo 3.11 ;;
  *kindling_sources.pth*) [ -e "$site/kindling_sources.pth" ]; exit ;;
  *"import kindling_platform"*) [ -e "$site/kindling_sources.pth" ]; exit ;;
  "-c import venv, ensurepip") exit "${FAKE_NO_VENV:-0}" ;;
  -V) echo "Python 3.11.9" ;;
  "-m venv "*) mkdir -p "$3/bin" "$3/site"; cp "$0" "$3/bin/python" ;;
  *"--require-hashes"*) [ -z "${FAKE_KILLED:-}" ] || kill -9 $PPID ;;
  *" pip=="*) exit "${FAKE_OLD_PIP:-0}" ;;
  *"import importlib.metadata"*) exit 1 ;;
  *purelib*) echo "$site" ;;
  *"--no-index"*) exit "${FAKE_NO_LOCAL_WHEEL:-0}" ;;
  *"--index-url"*) exit "${FAKE_NO_INDEX:-0}" ;;
esac
"""


@dataclass(slots=True)
class Launcher:
    folder: Path
    env: dict[str, str]

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        self.calls.unlink(missing_ok=True)
        return subprocess.run(
            [self.folder / "kindling", *arguments],
            env=self.env | env, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    @property
    def calls(self) -> Path:
        return self.folder / "calls"

    def called(self, part: str) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if part in line]


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    folder = tmp_path / "checkout"
    (folder / "deploy/lock").mkdir(parents=True)
    shutil.copy(ROOT / "kindling", folder / "kindling")
    for level in ("runtime", "test"):
        (folder / f"deploy/lock/{level}.txt").write_text(f"a=={level}\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("python3", "python3.13", "python3.12", "python3.11", "python"):
        (programs / name).write_text(FAKE_PYTHON)
        (programs / name).chmod(0o755)
    (programs / "nvidia-smi").write_text("#!/bin/bash\nexit ${FAKE_NO_GPU:-1}\n")
    (programs / "nvidia-smi").chmod(0o755)
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(folder / "calls"), "HOME": str(tmp_path)}
    return Launcher(folder, env)


def test_first_start_installs_and_the_second_goes_straight_on(launcher: Launcher):
    first = launcher.run("up", "--check")
    assert first.returncode == 0, first.stderr
    assert "packages (runtime)" in first.stdout and " s" in first.stdout
    assert launcher.called("-m venv") and launcher.called("--require-hashes")
    assert launcher.calls.read_text().splitlines()[-1] == "-m kindling_platform.cli up --check"
    second = launcher.run("up")
    assert second.stdout == ""
    assert launcher.calls.read_text().endswith("\n-m kindling_platform.cli up\n")
    assert not launcher.called("pip")


def test_sources_are_put_on_the_path(launcher: Launcher):
    launcher.run("up")
    listed = (launcher.folder / ".venv/site/kindling_sources.pth").read_text().splitlines()
    assert listed == [str(launcher.folder / root) for root in
                      ("platform", "billing", "console", "workers", "engine")]  # fmt: skip


def test_changed_lock_installs_again_into_the_same_environment(launcher: Launcher):
    launcher.run("up")
    (launcher.folder / "deploy/lock/runtime.txt").write_text("a==2\n")
    launcher.run("up")
    assert launcher.called("--require-hashes") and not launcher.called("-m venv")


def test_what_pip_installs_is_compiled_at_once_on_all_cores(launcher: Launcher):
    launcher.run("up")
    assert all("--no-compile" in call for call in launcher.called("pip install") if "pip==" not in call)
    calls = launcher.calls.read_text().splitlines()
    (compiled,) = launcher.called("compileall")
    assert "-j 0" in compiled and str(launcher.folder / ".venv") in compiled
    assert calls.index(compiled) > max(calls.index(call) for call in launcher.called("pip install"))


def test_without_a_newer_pip_the_one_that_is_there_does(launcher: Launcher):
    done = launcher.run("up", FAKE_OLD_PIP="1")
    assert done.returncode == 0 and launcher.called("--require-hashes")


def test_killed_installation_begins_anew(launcher: Launcher):
    killed = launcher.run("up", FAKE_KILLED="1")
    assert killed.returncode != 0
    assert (launcher.folder / ".venv/installing").exists()
    again = launcher.run("up")
    assert again.returncode == 0
    assert launcher.called("-m venv")
    assert not (launcher.folder / ".venv/installing").exists()


def test_packages_of_another_python_are_not_taken_for_installed(launcher: Launcher):
    launcher.run("up")
    (launcher.folder / ".venv/site/kindling_sources.pth").unlink()
    again = launcher.run("up")
    assert again.returncode == 0 and launcher.called("--require-hashes")


def test_the_glance_finds_what_this_python_has_installed(tmp_path: Path):
    text = (ROOT / "kindling").read_text()
    function = text[text.index("is_installed() {") :]
    function = function[: function.index("\n}\n") + 3]
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (venv / "installed-runtime").write_text("digest")

    def glance() -> bool:
        line = f'VENV="{venv}"; {function} is_installed runtime digest'
        return subprocess.run(["bash", "-c", line], check=False).returncode == 0

    other = venv / "lib/python3.1/site-packages"
    other.mkdir(parents=True)
    (other / "kindling_sources.pth").write_text("")
    assert not glance()
    (site,) = (path for path in venv.glob("lib/python*/site-packages") if path != other)
    (site / "kindling_sources.pth").write_text("")
    assert glance()
    (venv / "installing").write_text("")
    assert not glance()


def test_an_update_that_was_killed_is_not_taken_for_installed(launcher: Launcher):
    launcher.run("up")
    before = (launcher.folder / "deploy/lock/runtime.txt").read_text()
    (launcher.folder / "deploy/lock/runtime.txt").write_text("a==2\n")
    assert launcher.run("up", FAKE_KILLED="1").returncode != 0
    assert not list((launcher.folder / ".venv").glob("installed-*"))
    (launcher.folder / "deploy/lock/runtime.txt").write_text(before)
    assert launcher.run("up").returncode == 0
    assert launcher.called("-m venv") and launcher.called("--require-hashes")


def test_a_stop_does_not_install_what_an_update_brought(launcher: Launcher):
    launcher.run("up")
    (launcher.folder / "deploy/lock/runtime.txt").write_text("a==2\n")
    stopped = launcher.run("down")
    assert stopped.returncode == 0 and not launcher.called("pip")
    assert launcher.calls.read_text().endswith("\n-m kindling_platform.cli down\n")


def test_wheel_that_pip_knows_is_taken_first(launcher: Launcher):
    launcher.run("up")
    assert len(launcher.called("torch==")) == 1
    assert "--no-index" in launcher.called("torch==")[0]


def test_without_a_gpu_the_cpu_index_comes_next(launcher: Launcher):
    launcher.run("up", FAKE_NO_LOCAL_WHEEL="1")
    assert "https://download.pytorch.org/whl/cpu" in launcher.called("torch==")[-1]


@pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="this machine has a GPU")
def test_with_a_gpu_the_plain_pin_comes_next(launcher: Launcher):
    launcher.run("up", FAKE_NO_LOCAL_WHEEL="1", FAKE_NO_GPU="0")
    assert launcher.called("torch==")[-1] == "-m pip install --no-compile torch==2.13.0"


def test_named_index_is_the_only_one_asked(launcher: Launcher):
    launcher.run("up", FAKE_NO_LOCAL_WHEEL="1", KINDLING_TORCH_INDEX="https://mirror.example/torch")
    assert launcher.called("torch==")[-1].endswith("--index-url https://mirror.example/torch torch==2.13.0")


def test_unreachable_cpu_index_falls_back_to_the_plain_pin(launcher: Launcher):
    done = launcher.run("up", FAKE_NO_LOCAL_WHEEL="1", FAKE_NO_INDEX="1")
    assert done.returncode == 0
    assert launcher.called("torch==")[-1] == "-m pip install --no-compile torch==2.13.0"


def test_failed_step_shows_the_end_of_its_log(launcher: Launcher):
    named = "https://mirror.example/torch"
    failed = launcher.run("up", FAKE_NO_LOCAL_WHEEL="1", FAKE_NO_INDEX="1", KINDLING_TORCH_INDEX=named)
    assert failed.returncode == 1
    assert "[install_failed]" in failed.stderr and "install.log" in failed.stderr


def test_old_python_is_refused_with_what_to_install(launcher: Launcher):
    refused = launcher.run("up", FAKE_OLD="1")
    assert refused.returncode == 1
    assert "[python_missing]" in refused.stderr and "apt install python3" in refused.stderr


def test_missing_venv_module_names_the_package(launcher: Launcher):
    refused = launcher.run("up", FAKE_NO_VENV="1")
    assert refused.returncode == 1
    assert "[venv_missing]" in refused.stderr and "apt install python3.11-venv" in refused.stderr


def test_other_systems_are_pointed_to_a_container(launcher: Launcher):
    uname = Path(launcher.env["PATH"].split(":")[0]) / "uname"
    uname.write_text("#!/bin/bash\necho Darwin\n")
    uname.chmod(0o755)
    refused = launcher.run("up")
    assert refused.returncode == 1
    assert "[not_linux]" in refused.stderr and "WSL" in refused.stderr


def test_unknown_command_is_refused_and_help_is_not(launcher: Launcher):
    assert launcher.run("frobnicate").returncode == 1
    helped = launcher.run("--help")
    assert helped.returncode == 0 and "reset-operator" in helped.stdout


def test_it_works_from_anywhere_through_a_link(launcher: Launcher, tmp_path: Path):
    link = tmp_path / "elsewhere"
    link.symlink_to(launcher.folder / "kindling")
    done = subprocess.run([link, "models"], env=launcher.env, cwd="/", capture_output=True, check=False)
    assert done.returncode == 0
    assert (launcher.folder / ".venv/installed-runtime").exists()


def test_it_lets_every_command_of_the_api_through():
    from kindling_platform.cli.app import app

    names = {command.name for command in app.registered_commands} | {
        group.name for group in app.registered_groups
    }
    line = next(
        line for line in (ROOT / "kindling").read_text().splitlines() if line.strip().startswith("up | down")
    )
    assert names
    assert names <= set(line.strip().removesuffix(") ;;").split(" | "))
