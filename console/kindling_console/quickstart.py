"""The quickstart panel: the same three snippets wherever a model can be called."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings

FOLDER = Path(__file__).parent / "snippets"
LANGUAGES = (
    ("curl", "curl", "curl.txt"),
    ("python", "Python", "python.txt"),
    ("javascript", "JavaScript", "javascript.txt"),
)
# What stands before a file's name, by the surface of a model.
FILE_PREFIXES = {"chat": "", "completions": "complete-", "embeddings": "embed-"}
# Stands where a key goes. The real one takes its place only in the answer that creates it.
KEY_PLACE = "YOUR_API_KEY"
EXAMPLE = "Tell me a short story about a lighthouse."
# How far a base model goes on, which has no end of its own.
CONTINUED = {
    "curl": '    "max_tokens": 120,\n',
    "python": "    max_tokens=120,\n",
    "javascript": "  max_tokens: 120,\n",
}
# A base model does as it is told only by chance; it goes on with what it reads.
BEGINNING = "Once upon a time there was a lighthouse that"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A program that calls the model, in one language."""

    id: str
    label: str
    text: str


def base_url() -> str:
    """Where clients of the OpenAI API point."""
    return f"{settings.KINDLING_ENV.public_url}/v1"


def snippets(model: str, *, surface: str, prompt: str = "", key: str = KEY_PLACE) -> list[Snippet]:
    """Snippets that call a model or an adapter by its reference, ready to run once the key is in."""
    prompt = prompt or (BEGINNING if surface == "completions" else EXAMPLE)
    messages = json.dumps([{"role": "user", "content": prompt}], ensure_ascii=False)
    text = json.dumps(prompt, ensure_ascii=False)
    values = {"BASE_URL": base_url(), "API_KEY": key, "MODEL": model, "MESSAGES": messages, "TEXT": text}
    params = CONTINUED if surface == "completions" else dict.fromkeys(CONTINUED, "")
    return [
        Snippet(snippet.id, snippet.label, _fill(snippet, {"PARAMS": params[snippet.id]} | values))
        for snippet in snippet_templates(surface)
    ]


@cache
def snippet_templates(surface: str = "chat") -> tuple[Snippet, ...]:
    """The snippets with their %PLACES% open; the playground fills them in the browser."""
    prefix = FILE_PREFIXES[surface]
    return tuple(
        Snippet(id, label, (FOLDER / f"{prefix}{file}").read_text().rstrip("\n"))
        for id, label, file in LANGUAGES
    )


def _fill(snippet: Snippet, values: dict[str, str]) -> str:
    text = snippet.text
    for name, value in values.items():
        # The shell's own quote has to leave the quoted body, speak for itself and come back.
        safe = value.replace("'", "'\\''") if snippet.id == "curl" else value
        text = text.replace(f"%{name}%", safe)
    return text
