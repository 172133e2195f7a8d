"""A new batch: a file of requests, or of prompts that become some."""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.core import signing

from kindling_platform.batches.beginning import batch_id_make
from kindling_platform.batches.bounds import MAX_FILE_BYTES, MAX_LINES
from kindling_platform.common.prompt_lines import CHAT, DEFAULT_MAX_TOKENS, requests_each

REQUESTS, PROMPTS = "requests", "prompts"
# What is read at once to make requests of it.
MAX_PROMPTS_BYTES = 10 * 1024 * 1024
ENDPOINTS = (CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses")
SALT = "kindling batch"
TOO_MANY = (
    f"These are too many prompts for one batch, which has at most {MAX_LINES:,} of them and {MAX_FILE_BYTES >> 20} MB"
    " of requests. Make two files of them."
)
UTF8 = "The file is not a text in UTF-8. Save it as UTF-8 and choose it again."
_select = {"class": "form-select"}


class BatchForm(forms.Form):
    """What to work through, and in whose name; keys by id and models by reference, each with what it is called."""

    holds = forms.ChoiceField(
        choices=[
            (PROMPTS, "One prompt in each line"),
            (REQUESTS, "Requests, one in each line, as OpenAI's batches have them"),
        ],
        initial=PROMPTS, label="The file has", widget=forms.RadioSelect(attrs={"class": "form-check-input"}),
    )  # fmt: skip
    file = forms.FileField(
        max_length=200, label="File",
        error_messages={"required": "Choose a file.", "empty": "The file is empty."},
        widget=forms.FileInput(attrs={"class": "form-control", "accept": ".jsonl,.txt,.json,text/plain"}),
    )  # fmt: skip
    model = forms.ChoiceField(
        required=False, label="Answered by", widget=forms.Select(attrs={"class": "form-select mono"})
    )
    max_tokens = forms.IntegerField(
        min_value=1, max_value=1_000_000, required=False, initial=DEFAULT_MAX_TOKENS,
        label="Tokens of an answer, at most", widget=forms.NumberInput(attrs={"class": "form-control"}),
    )  # fmt: skip
    endpoint = forms.ChoiceField(
        choices=[(one, one) for one in ENDPOINTS], required=False, initial=CHAT, label="Route",
        help_text="The url of every line.", widget=forms.Select(attrs={"class": "form-select mono"}),
    )  # fmt: skip
    key = forms.ChoiceField(
        label="API key", help_text="One of yours. The batch runs in its name: its budget and its models bind it.",
        error_messages={"required": "Choose a key."}, widget=forms.Select(attrs=_select),
    )  # fmt: skip
    # Sent again, a form begins no second batch.
    once = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(
        self, *args: Any, org_id: str, keys: list[tuple[str, str]], models: list[str], **kwargs: Any
    ) -> None:
        self._salt = f"{SALT} {org_id}"
        once = signing.dumps(batch_id_make(), salt=self._salt)
        super().__init__(*args, **{"initial": {"once": once}} | kwargs)
        for name, choices in (("key", keys), ("model", [(ref, ref) for ref in models])):
            field = self.fields[name]
            if isinstance(field, forms.ChoiceField):
                field.choices = choices

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        file, holds = cleaned.get("file"), cleaned.get("holds")
        if file is None or holds is None:
            return cleaned
        if file.size > MAX_FILE_BYTES:
            self.add_error("file", f"The file has more than {MAX_FILE_BYTES >> 20} MB. Make two of it.")
        elif holds == PROMPTS:
            self._take_prompts(cleaned)
        return cleaned

    def batch_id(self) -> str:
        """The id that was made with the form; another one if somebody has changed it."""
        try:
            return str(signing.loads(self.cleaned_data["once"], salt=self._salt))
        except signing.BadSignature:
            return batch_id_make()

    def pieces(self) -> Iterator[bytes]:
        """The requests, piece by piece."""
        made = self.cleaned_data.get("requests")
        return iter([made]) if made is not None else self.cleaned_data["file"].chunks()

    def route(self) -> str:
        """The endpoint of every request."""
        prompts = self.cleaned_data["holds"] == PROMPTS
        return CHAT if prompts else self.cleaned_data["endpoint"] or CHAT

    def _take_prompts(self, cleaned: dict[str, Any]) -> None:
        file = cleaned["file"]
        if not cleaned.get("model"):
            if "model" not in self.errors:
                self.add_error("model", "Choose the model that answers the prompts.")
            return
        if file.size > MAX_PROMPTS_BYTES:
            self.add_error(
                "file", f"Prompts may have {MAX_PROMPTS_BYTES >> 20} MB in all. Make two files of them."
            )
            return
        try:
            text = file.read().decode("utf-8-sig")
        except UnicodeDecodeError:
            self.add_error("file", UTF8)
            return
        most = cleaned.get("max_tokens") or DEFAULT_MAX_TOKENS
        made = bytearray()
        # No further than the bounds: of short lines it would be fifty times the file, and more lines than a batch has.
        for count, request in enumerate(
            requests_each(text, model=cleaned["model"], max_tokens=most), start=1
        ):
            made += request + b"\n"
            if count > MAX_LINES or len(made) > MAX_FILE_BYTES:
                self.add_error("file", TOO_MANY)
                return
        if not made:
            self.add_error("file", "There is no prompt in the file: all its lines are empty.")
        else:
            cleaned["requests"] = bytes(made)
