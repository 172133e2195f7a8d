"""Letters that were written to files because no mail server is set."""

import email
import email.policy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

SEPARATOR = "-" * 79
SHOWN_FILES = 200


@dataclass(frozen=True, slots=True)
class KeptLetter:
    """One mail as it would have been sent; `id` names it among them."""

    id: str
    to: str
    subject: str
    body: str
    written_at: datetime


def kept_folder() -> Path | None:
    """Where letters are kept; None when a mail server is set and nothing is kept."""
    folder = getattr(settings, "EMAIL_FILE_PATH", None)
    return Path(folder) if folder else None


def kept_list() -> list[KeptLetter]:
    """The newest letters first."""
    folder = kept_folder()
    if folder is None or not folder.is_dir():
        return []
    files = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [letter for path in files[:SHOWN_FILES] for letter in reversed(_read(path))]


def kept_find(*, letter_id: str) -> KeptLetter | None:
    """One letter; only those that are kept can be named."""
    return next((letter for letter in kept_list() if letter.id == letter_id), None)


def _read(path: Path) -> list[KeptLetter]:
    written_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    letters = []
    for index, text in enumerate(path.read_text(errors="replace").split(SEPARATOR)):
        if not text.strip():
            continue
        mail = email.message_from_string(text.lstrip("\n"), policy=email.policy.default)
        body = mail.get_body(preferencelist=("plain",))
        content = body.get_content() if body else ""
        letters.append(
            KeptLetter(
                f"{path.stem}-{index}", str(mail["To"] or ""), str(mail["Subject"] or ""), content, written_at
            )
        )
    return letters
