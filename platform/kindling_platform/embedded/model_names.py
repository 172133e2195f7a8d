"""Names in the catalog for models that were asked for by hub id or folder."""

import re


def model_name_from(wanted: str) -> str:
    """The last part of a hub id or a folder, in the letters that names may have."""
    last = wanted.rstrip("/").rsplit("/", 1)[-1].lower()
    return re.sub(r"[^a-z0-9._-]+", "-", last).strip("._-")[:64].strip("._-") or "model"
