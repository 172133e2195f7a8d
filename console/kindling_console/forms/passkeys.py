"""What a browser says of a passkey, read without trust: whoever asks may send anything."""

import json
from typing import Any

from allauth.mfa.webauthn import forms as allauth_forms
from cryptography.exceptions import InvalidSignature
from django import forms
from fido2.utils import websafe_decode

from kindling_platform.accounts.factors import passkey_room_check
from kindling_platform.common.errors import KindlingError

NOT_TAKEN = "This passkey was not taken: it is unknown here, or the page was open for too long. Try again."
NOT_ADDED = "The passkey was not added: the page was open for too long, or what the browser sent is broken. Try again."
MAX_NAME_CHARS = 80
# What a browser sends is kept as it is: a key and what its maker says of it, in letters of ASCII alone.
MAX_CREDENTIAL_CHARS = 32 * 1024
# What reading something that is no credential ends in.
BROKEN = (AttributeError, IndexError, InvalidSignature, KeyError, TypeError, ValueError)


def name_clean(name: str) -> str:
    """A passkey's name, on one line."""
    plain = " ".join(name.split())
    if len(plain) > MAX_NAME_CHARS or not plain.isprintable():
        raise forms.ValidationError(f"A name has at most {MAX_NAME_CHARS} characters that can be printed.")
    return plain


class Blank(forms.HiddenInput):
    """What a script fills in, each time anew: nothing that was sent comes back."""

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        return super().get_context(name, "", attrs)


class AddForm(allauth_forms.AddWebAuthnForm):  # type: ignore[misc]  # allauth ships no types
    """A new passkey."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].label = "Name"
        self.fields["name"].widget.attrs |= {"maxlength": MAX_NAME_CHARS, "autocomplete": "off"}
        self.fields["credential"].widget = Blank()
        # Every one signs in by itself, and proves that its owner is there: the script asks the browser for that.
        self.fields["passwordless"].widget = forms.HiddenInput()
        self.fields["passwordless"].initial = "on"

    def clean_name(self) -> str:
        return name_clean(str(super().clean_name()))

    def clean_credential(self) -> Any:
        text = json.dumps(self.cleaned_data["credential"])
        if len(text) > MAX_CREDENTIAL_CHARS or "\\u" in text:
            raise forms.ValidationError(NOT_ADDED)
        return self.cleaned_data["credential"]

    def clean(self) -> dict[str, Any]:
        try:
            cleaned: dict[str, Any] = super().clean()
        except (forms.ValidationError, *BROKEN) as error:
            raise forms.ValidationError(NOT_ADDED) from error
        if "credential" not in cleaned:
            self.errors.pop("credential", None)
            raise forms.ValidationError(NOT_ADDED)
        try:
            passkey_room_check(user=self.user)
        except KindlingError as error:
            raise forms.ValidationError(error.message, code=error.code) from error
        return cleaned


class Checked:
    """A passkey that is used."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["credential"].error_messages |= {"required": NOT_TAKEN, "invalid": NOT_TAKEN}  # type: ignore[attr-defined]

    def clean_credential(self) -> Any:
        try:
            return super().clean_credential()  # type: ignore[misc]
        except BROKEN as error:
            raise forms.ValidationError(NOT_TAKEN) from error
        except forms.ValidationError as error:
            if error.code != "incorrect_code":
                raise
            raise forms.ValidationError(NOT_TAKEN) from error


class AuthenticateForm(Checked, allauth_forms.AuthenticateWebAuthnForm):  # type: ignore[misc]
    """As a second factor."""


class SignInForm(Checked, allauth_forms.LoginWebAuthnForm):  # type: ignore[misc]
    """Instead of address and password."""

    def clean_credential(self) -> Any:
        try:
            whose = websafe_decode(self.cleaned_data["credential"]["response"]["userHandle"])
        except BROKEN as error:
            raise forms.ValidationError(NOT_TAKEN) from error
        if b"\x00" in whose:  # which no database looks for
            raise forms.ValidationError(NOT_TAKEN)
        return super().clean_credential()


class ConfirmForm(Checked, allauth_forms.ReauthenticateWebAuthnForm):  # type: ignore[misc]
    """To confirm that somebody is still there."""


class RenameForm(allauth_forms.EditWebAuthnForm):  # type: ignore[misc]
    """Another name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].label = "Name"
        self.fields["name"].widget.attrs |= {"maxlength": MAX_NAME_CHARS, "autocomplete": "off"}

    def clean_name(self) -> str:
        return name_clean(self.cleaned_data["name"])
