"""Holds on to the files of a running installation while its database is dumped."""

import os
import shutil
from pathlib import Path

# Models are left out: they are large and are fetched again by their hub ids.
FOLDERS = ("blobs", "usage")


def files_stage(home: Path, staged: Path) -> None:
    """Link every finished file; one that is deleted later stays in the stage. Safe to run again."""
    for name in FOLDERS:
        for folder_name, _folders, files in os.walk(home / name):
            folder = Path(folder_name)
            for file in files:
                _link(folder / file, staged / (folder / file).relative_to(home))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        target.hardlink_to(source)
    except FileExistsError:
        pass
    except FileNotFoundError:
        # Deleted since the folder was read.
        return
    except OSError:
        # Another disk, or one without links.
        shutil.copy2(source, target)
