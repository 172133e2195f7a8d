"""An adapter's upload."""

from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile


class ManyFilesInput(forms.ClearableFileInput):
    """A file input that takes several."""

    allow_multiple_selected = True


class ManyFilesField(forms.FileField):
    """Every file of a multiple input."""

    widget = ManyFilesInput

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile]:
        given = data if isinstance(data, list | tuple) else [data] if data else []
        if not given:
            raise forms.ValidationError(self.error_messages["required"], code="required")
        return [super(ManyFilesField, self).clean(one, initial) for one in given]


class UploadForm(forms.Form):
    """Name, base model and files."""

    name = forms.CharField(max_length=64, error_messages={"required": "Give the adapter a name."})
    base_model = forms.ChoiceField(error_messages={"required": "Choose the model it was trained on."})
    files = ManyFilesField(  # type: ignore[assignment]  # shadows Form.files, which is only read before
        error_messages={"required": "Choose the adapter's files, or a zip of them."}
    )

    def __init__(self, *args: Any, bases: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["base_model"]
        if isinstance(field, forms.ChoiceField):
            field.choices = bases
