"""What the operator types about an incident or planned work."""

from django import forms

from kindling_platform.status.services import SEVERITIES, TEXT_CHARS, TITLE_CHARS

MOMENT = {"type": "datetime-local", "class": "form-control"}


def _moment(label: str, help_text: str) -> forms.DateTimeField:
    widget = forms.DateTimeInput(format="%Y-%m-%dT%H:%M", attrs=MOMENT)
    return forms.DateTimeField(label=label, required=False, widget=widget, help_text=help_text)


class NoticeForm(forms.Form):
    """A notice for everybody."""

    title = forms.CharField(
        max_length=TITLE_CHARS, help_text="What people notice, in a few words.",
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )  # fmt: skip
    severity = forms.ChoiceField(
        label="Kind", choices=SEVERITIES, widget=forms.Select(attrs={"class": "form-select"})
    )
    text = forms.CharField(
        max_length=TEXT_CHARS, help_text="Everybody reads it: name no customer. Say what happens and what comes next.",
        widget=forms.Textarea(attrs={"class": "form-control", "rows": 4}),
    )  # fmt: skip
    begins_at = _moment("Begins (UTC)", "Empty: now.")
    ends_at = _moment("Ends (UTC)", "Empty while nobody knows it.")
    notice_id = forms.RegexField(r"^ntc_[0-9a-z]{26}$", widget=forms.HiddenInput)
