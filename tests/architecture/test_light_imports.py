"""The engine runs where only the libraries of a bare GPU machine are: none of the server's are imported."""

import subprocess
import sys

import pytest

ABSENT = (
    *(
        "msgspec",
        "aiohttp",
        "llguidance",
        "prometheus_client",
        "structlog",
        "httpx",
        "orjson",
        "huggingface_hub",
    ),
    *("transformers", "peft", "rich", "typer", "triton", "django", "pydantic"),
)
MODULES = (
    *("kindling_engine.llm", "kindling_engine.core.startup", "kindling_engine.core.steps"),
    *("kindling_engine.core.intake", "kindling_engine.scheduler.scheduler", "kindling_engine.runner.runner"),
    *("kindling_engine.models.registry", "kindling_engine.lora.cache", "kindling_engine.sampling.sampler"),
)
_BLOCK = """
import importlib.abc, sys
absent = set(sys.argv[1].split(","))
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"{name} is not installed here")
sys.meta_path.insert(0, Absent())
for name in sys.argv[2:]:
    importlib.import_module(name)
assert not absent & set(sys.modules)
"""


def _import(*modules: str, absent: tuple[str, ...] = ABSENT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", _BLOCK, ",".join(absent), *modules], capture_output=True, text=True
    )


def test_the_engines_own_parts_need_no_library_of_the_servers():
    done = _import(*MODULES)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("module", ["kindling_engine.protocol.ipc"])
def test_the_check_sees_what_it_is_for(module: str):
    done = _import(module)
    assert done.returncode != 0 and "msgspec is not installed here" in done.stderr


def test_no_start_waits_for_the_libraries_of_payments_and_pages():
    """Half a second and a third, in every process of the platform; whoever needs them imports them then."""
    code = (
        "import sys, django; django.setup(); import kindling_platform.config.urls, kindling_workers.app\n"
        "assert 'kindling_console.pages.documents' in sys.modules\n"
        "print(sorted({'stripe', 'reportlab'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
