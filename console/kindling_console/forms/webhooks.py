"""A webhook: where it goes, what for, and which kinds of events it gets."""

from typing import Any

from django import forms

from kindling_platform.hooks.kinds import DESCRIPTION_CHARS, KINDS, URL_CHARS

EVERY, SOME = "every", "some"


class WebhookForm(forms.Form):
    """Either every kind of event, those that come later among them, or some that are ticked."""

    url = forms.CharField(
        label="Address", max_length=URL_CHARS,
        help_text="Begins with https:// and can be reached from the internet.",
        widget=forms.TextInput(
            attrs={
                "class": "form-control mono", "type": "url", "placeholder": "https://example.com/hooks/kindling",
                "autocomplete": "off",
            }
        ),
    )  # fmt: skip
    description = forms.CharField(
        label="Description", max_length=DESCRIPTION_CHARS, required=False, help_text="What listens there.",
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )  # fmt: skip
    which = forms.ChoiceField(choices=[(EVERY, "Every event"), (SOME, "Some of them")], initial=EVERY)
    events = forms.MultipleChoiceField(choices=list(KINDS.items()), required=False)

    def __init__(self, data: Any = None, *, endpoint: Any = None) -> None:
        initial: dict[str, Any] = {}
        if endpoint is not None:
            initial = {
                "url": endpoint.url, "description": endpoint.description, "events": endpoint.events,
                "which": SOME if endpoint.events else EVERY,
            }  # fmt: skip
        super().__init__(data, initial=initial)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("which") == SOME and "events" in cleaned and not cleaned["events"]:
            self.add_error("events", "Tick at least one kind, or choose every event.")
        return cleaned

    def chosen(self) -> list[str]:
        """The kinds; none for every one."""
        return list(self.cleaned_data["events"]) if self.cleaned_data["which"] == SOME else []

    def kinds(self) -> list[tuple[str, str, bool]]:
        """Each kind with its words, and whether it is ticked."""
        ticked = set(self["events"].value() or ())
        return [(kind, words, kind in ticked) for kind, words in KINDS.items()]
