"""What the operator types to make a deployment, and to change one."""

from collections.abc import Iterable
from typing import Any

from django import forms

from kindling_engine.protocol.weight_forms import CHECKPOINT, FP8, HALF, INT8
from kindling_platform.deployments.services import MAX_REPLICAS

WEIGHTS = (
    (CHECKPOINT, "As the checkpoint has them"),
    (HALF, "fp16: half the memory of fp32 (CPU)"),
    (INT8, "int8wo: a quarter of the memory of fp32 (CPU)"),
    (FP8, "fp8: half the memory of bf16 (Hopper GPU)"),
)


class DeploymentChangeForm(forms.Form):
    """How many replicas a deployment has, and the form of its weights."""

    replicas = forms.IntegerField(
        min_value=1, max_value=MAX_REPLICAS, initial=1,
        widget=forms.NumberInput(attrs={"class": "form-control"}),
    )  # fmt: skip
    weights = forms.ChoiceField(
        choices=WEIGHTS, initial=CHECKPOINT,
        help_text="Fewer bytes answer faster; int8wo and fp8 change some answers a little.",
        widget=forms.Select(attrs={"class": "form-select"}),
    )  # fmt: skip


class DeploymentForm(DeploymentChangeForm):
    """A model that should run for an organisation, under a name; models as a reference and what it is called."""

    field_order = ("model", "name", "replicas", "weights")
    model = forms.ChoiceField(widget=forms.Select(attrs={"class": "form-select mono"}))
    name = forms.CharField(
        max_length=64, help_text="Lower-case letters, digits and dashes.",
        widget=forms.TextInput(attrs={"class": "form-control mono", "autocomplete": "off"}),
    )  # fmt: skip

    def __init__(self, *args: Any, models: Iterable[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["model"]
        if isinstance(field, forms.ChoiceField):
            field.choices = list(models)
