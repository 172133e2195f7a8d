"""The playground's controls, for a post without scripts."""

from typing import Any

from django import forms


class SamplingForm(forms.Form):
    """A model and how to sample; what is left empty is left to the engine."""

    model = forms.CharField(max_length=200, error_messages={"required": "Choose a model."})
    temperature = forms.FloatField(required=False, min_value=0, max_value=2)
    top_p = forms.FloatField(required=False, min_value=0, max_value=1)
    max_tokens = forms.IntegerField(required=False, min_value=1)
    seed = forms.IntegerField(required=False)

    def __init__(self, *args: Any, refs: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refs = refs

    def clean_model(self) -> str:
        """Only what this organisation may call so."""
        ref: str = self.cleaned_data["model"]
        if ref not in self._refs:
            raise forms.ValidationError("There is no such model.")
        return ref

    def sampling_fields(self) -> dict[str, Any]:
        """The fields of a request that are the same in each mode."""
        return {
            name: self.cleaned_data[name] for name in ("model", "temperature", "top_p", "max_tokens", "seed")
        }


class ChatForm(SamplingForm):
    """A message to a model that chats."""

    message = forms.CharField(max_length=100_000, strip=False)
    system = forms.CharField(max_length=100_000, required=False)

    def ask_fields(self) -> dict[str, Any]:
        """The chat request these controls ask for."""
        data = self.cleaned_data
        system = [{"role": "system", "content": data["system"]}] if data["system"].strip() else []
        return self.sampling_fields() | {
            "messages": [*system, {"role": "user", "content": data["message"]}],
        }


class RawForm(SamplingForm):
    """A text to be continued."""

    prompt = forms.CharField(max_length=100_000, strip=False)

    def ask_fields(self) -> dict[str, Any]:
        """The completion these controls ask for."""
        return self.sampling_fields() | {"prompt": self.cleaned_data["prompt"]}
