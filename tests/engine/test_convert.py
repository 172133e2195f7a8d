"""A pickled adapter becomes safetensors in a process of its own; whatever is not plain weights is refused unread."""

import errno
import json
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kindling_engine.convert import command
from kindling_engine.convert.command import PICKLE, WEIGHTS, convert_command, folder_convert
from kindling_engine.convert.reader import Refused, convert


class Evil:
    """Unpickled by a naive reader, it would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "adapter"
    made.mkdir()
    return made


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def code_of(folder: Path) -> str:
    """Why the reader refuses what a folder holds; in this process, where torch is loaded already."""
    with pytest.raises(Refused) as refused:
        convert(folder / PICKLE, folder / WEIGHTS)
    return refused.value.args[0]


def test_weights_are_the_same_afterwards(folder, capsys):
    shared = torch.randn(4, 8)
    tensors = {
        "base_model.model.q.lora_A.weight": shared,
        "base_model.model.q.lora_B.weight": torch.randn(8, 4).bfloat16(),
        "base_model.model.v.lora_A.weight": shared[:2],
        "base_model.model.v.lora_B.weight": torch.randn(2, 8).half().t(),
    }
    torch.save(OrderedDict(tensors), folder / PICKLE)
    assert convert_command([str(folder)]) == 0
    assert "4 tensors" in capsys.readouterr().out
    found = load_file(folder / WEIGHTS)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert left(folder) == [PICKLE, WEIGHTS]


def test_a_pickle_with_code_in_it_runs_nothing(folder, tmp_path):
    mark = tmp_path / "mark"
    torch.save({"a": torch.ones(2), "b": Evil(mark)}, folder / PICKLE)
    assert folder_convert(folder)["error"] == "not_weights"
    (folder / PICKLE).write_bytes(pickle.dumps(Evil(mark)))
    assert folder_convert(folder)["error"] == "not_weights"
    assert not mark.exists()
    assert left(folder) == [PICKLE]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"a": torch.ones(2, dtype=torch.int64)}, "dtype"),
        ({"a": torch.ones(2, 2).to_sparse()}, "dtype"),
        ({"a": 3}, "not_weights"),
        ({}, "not_weights"),
        ([torch.ones(2)], "not_weights"),
    ],
)
def test_what_is_no_table_of_weights_is_refused(folder, content, code):
    torch.save(content, folder / PICKLE)
    assert code_of(folder) == code
    assert left(folder) == [PICKLE]


@pytest.mark.parametrize("data", [b"", b"\x80", b"PK\x03\x04 not a zip", os.urandom(300)])
def test_broken_files_are_refused(folder, data):
    (folder / PICKLE).write_bytes(data)
    assert code_of(folder) == "not_weights"


def test_a_converted_file_is_never_overwritten_and_a_missing_one_named(folder, capsys):
    assert convert_command([str(folder)]) == 1
    assert "[files_missing]" in capsys.readouterr().err
    (folder / WEIGHTS).write_bytes(b"mine")
    torch.save({"a": torch.ones(2)}, folder / PICKLE)
    assert folder_convert(folder)["error"] == "exists"
    assert (folder / WEIGHTS).read_bytes() == b"mine"


def test_a_full_disk_leaves_nothing_half_made(folder, monkeypatch):
    """A limit on the size of files ends the writing as a full disk does."""
    torch.save({"a": torch.randn(1 << 20)}, folder / PICKLE)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from kindling_engine.convert import lockdown, reader;"
        "reader.lockdown = lambda *, input_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536));"
        "sys.exit(reader.main())"
    )
    run = subprocess.run

    def limited(argv, **options):
        return run([sys.executable, "-c", code, *argv[3:]], **options)

    monkeypatch.setattr(command.subprocess, "run", limited)
    assert folder_convert(folder)["error"] == "disk_full"
    assert left(folder) == [PICKLE]


def test_the_reader_is_bounded_and_leaves_the_network_where_it_may():
    code = (
        "import json, os, resource, socket; from kindling_engine.convert.lockdown import lockdown\n"
        "before = os.readlink('/proc/self/ns/net'); lockdown(input_bytes=1)\n"
        "limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_CORE,"
        " resource.RLIMIT_NPROC)]\n"
        "left = before != os.readlink('/proc/self/ns/net')\n"
        "try: socket.create_connection(('127.0.0.1', 9), 2)\n"
        "except OSError as error: print(json.dumps([limits, left, error.errno]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    (memory, core, processes), left_network, refused = json.loads(ran.stdout)
    assert 0 < memory < 8 << 30
    assert (core, processes) == (0, 0)
    # A kernel that keeps the process in its network has a closed port answer instead.
    assert refused == (errno.ENETUNREACH if left_network else errno.ECONNREFUSED)


def test_nothing_that_serves_imports_it():
    import kindling_engine

    root = Path(kindling_engine.__file__).parent
    users = [
        path.relative_to(root).parts[0]
        for path in root.rglob("*.py")
        if "kindling_engine.convert" in path.read_text() and path.parent.name != "convert"
    ]
    assert users == ["__main__.py"]
