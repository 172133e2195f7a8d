"""What the operator types to make a deployment, and to change one."""

from collections.abc import Iterable
from typing import Any

from django import forms

from kindling_engine.protocol.kv_dtypes import AUTO
from kindling_engine.protocol.kv_dtypes import FP8 as KV_FP8
from kindling_engine.protocol.weight_forms import CHECKPOINT, FP8, HALF, INT8
from kindling_platform.deployments.settings import MAX_REPLICAS

WEIGHTS = (
    (CHECKPOINT, "As the checkpoint has them"),
    (HALF, "fp16: half the memory of fp32 (CPU)"),
    (INT8, "int8wo: a quarter of the memory of fp32 (CPU)"),
    (FP8, "fp8: half the memory of bf16 (Hopper GPU)"),
)
KV_DTYPES = (
    (AUTO, "As the model computes"),
    (KV_FP8, "fp8: a byte each, twice the tokens on a GPU"),
)


class DeploymentChangeForm(forms.Form):
    """How many replicas a deployment has, and the forms of its weights, and of its keys and values."""

    replicas = forms.IntegerField(
        min_value=1, max_value=MAX_REPLICAS, initial=1,
        widget=forms.NumberInput(attrs={"class": "form-control"}),
    )  # fmt: skip
    weights = forms.ChoiceField(
        choices=WEIGHTS, initial=CHECKPOINT,
        help_text="Fewer bytes answer faster; int8wo and fp8 change some answers a little.",
        widget=forms.Select(attrs={"class": "form-select"}),
    )  # fmt: skip
    kv_dtype = forms.ChoiceField(
        choices=KV_DTYPES, initial=AUTO, required=False, label="Keys and values",
        help_text="fp8 holds more of what is answered at once in the same memory, and changes some answers a little.",
        widget=forms.Select(attrs={"class": "form-select"}),
    )  # fmt: skip

    def clean_kv_dtype(self) -> str | None:
        """None, which changes nothing, where a form without the field was sent."""
        return self.cleaned_data["kv_dtype"] or None


class DeploymentForm(DeploymentChangeForm):
    """A model that should run for an organisation, under a name; models as a reference and what it is called."""

    field_order = ("model", "name", "replicas", "weights", "kv_dtype")
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
