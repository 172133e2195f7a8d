"""What the operator types to make a deployment."""

from collections.abc import Iterable
from typing import Any

from django import forms

from kindling_platform.deployments.services import MAX_REPLICAS


class DeploymentForm(forms.Form):
    """A model that should run for an organisation, under a name, on so many replicas."""

    model = forms.ChoiceField(widget=forms.Select(attrs={"class": "form-select mono"}))
    name = forms.CharField(
        max_length=64, help_text="Lower-case letters, digits and dashes.",
        widget=forms.TextInput(attrs={"class": "form-control mono", "autocomplete": "off"}),
    )  # fmt: skip
    replicas = forms.IntegerField(
        min_value=1, max_value=MAX_REPLICAS, initial=1,
        widget=forms.NumberInput(attrs={"class": "form-control"}),
    )  # fmt: skip

    def __init__(self, *args: Any, models: Iterable[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["model"]
        if isinstance(field, forms.ChoiceField):
            field.choices = [(ref, ref) for ref in models]
