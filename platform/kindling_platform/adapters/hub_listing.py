"""Which files of a repository on the hub are taken: the two that are served, and the card for its licence."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from kindling_engine.protocol.adapter_extras import CARD_NAME
from kindling_platform.adapters.files import LIMITS_BYTES, NEEDED, PICKLES, WEIGHTS, size_checked
from kindling_platform.common.errors import KindlingError

# In the order in which they are fetched: what is small says most.
WANTED = (NEEDED[0], CARD_NAME, WEIGHTS)


def listing_checked(repo_id: str, names: Iterable[str]) -> list[str]:
    """The files to fetch. A pickle is known by its name and never asked for.

    Raises:
        KindlingError: pickle_refused, hub_incomplete.
    """
    there = set(names)
    missing = [name for name in NEEDED if name not in there]
    if not missing:
        return [name for name in WANTED if name in there]
    pickle = next((name for name in sorted(there) if _is_pickled_adapter(name)), "")
    if pickle:
        raise KindlingError(
            "pickle_refused",
            f"{repo_id} has {pickle}, a pickle, which can run code when it is read; it was not fetched. Convert "
            "it on a computer of yours with kindling adapters convert and upload that, or ask for safetensors.",
        )
    raise KindlingError(
        "hub_incomplete",
        f"{repo_id} has no {' and no '.join(missing)} at its top, as PEFT saves an adapter. Is it the right one?",
    )


def sizes_checked(sizes: dict[str, int]) -> dict[str, int]:
    """The sizes in bytes by name; a card that is empty or too long is left out.

    Raises:
        KindlingError: empty_file, file_too_large.
    """
    return {
        name: size_checked(name, size) if name in NEEDED else size
        for name, size in sizes.items()
        if name in NEEDED or 0 < size <= LIMITS_BYTES[name]
    }


def _is_pickled_adapter(name: str) -> bool:
    """Whether weights were saved with `safe_serialization=False`; other pickles are a training's own."""
    path = PurePosixPath(name)
    return (
        path.stem == PurePosixPath(WEIGHTS).stem == name.removesuffix(path.suffix) and path.suffix in PICKLES
    )
