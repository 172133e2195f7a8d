"""An adapter from the Hugging Face Hub."""

from typing import Any

from django import forms


class HubForm(forms.Form):
    """A repository, its base model and what the adapter is called; the token is never shown again."""

    hub_id = forms.CharField(max_length=200, error_messages={"required": "Name the repository."})
    revision = forms.CharField(max_length=200, required=False)
    name = forms.CharField(max_length=64, error_messages={"required": "Give the adapter a name."})
    base_model = forms.ChoiceField(error_messages={"required": "Choose the model it was trained on."})
    hub_token = forms.CharField(max_length=300, required=False)

    def __init__(self, *args: Any, bases: list[tuple[str, str]], **kwargs: Any) -> None:
        # A second form on its page.
        super().__init__(*args, **{"auto_id": "id_hub_%s"} | kwargs)
        field = self.fields["base_model"]
        if isinstance(field, forms.ChoiceField):
            field.choices = bases
