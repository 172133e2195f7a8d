"""The visitor's own name."""

from django import forms


class NameForm(forms.Form):
    """How others see the visitor."""

    name = forms.CharField(max_length=80, label="Your name")
    name.widget.attrs["autocomplete"] = "name"
