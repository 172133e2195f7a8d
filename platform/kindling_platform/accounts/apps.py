from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "kindling_platform.accounts"
    label = "accounts"

    def ready(self) -> None:
        """allauth writes addresses, second factors and links itself, and tells of it by signals alone."""
        from allauth.account import signals as addresses
        from allauth.mfa import signals as factors
        from allauth.socialaccount import signals as identities
        from django.contrib.auth.signals import user_logged_in

        from kindling_platform.accounts import factors as records
        from kindling_platform.accounts.codes import unconfirmed_forget
        from kindling_platform.accounts.credit import address_confirmed
        from kindling_platform.accounts.reauthentication import signed_in

        addresses.email_confirmed.connect(unconfirmed_forget, dispatch_uid="kindling")
        addresses.email_confirmed.connect(address_confirmed, dispatch_uid="kindling.credit")
        factors.authenticator_added.connect(records.factor_added, dispatch_uid="kindling")
        factors.authenticator_removed.connect(records.factor_removed, dispatch_uid="kindling")
        factors.authenticator_reset.connect(records.factor_renewed, dispatch_uid="kindling")
        identities.social_account_added.connect(records.identity_linked, dispatch_uid="kindling")
        user_logged_in.connect(signed_in, dispatch_uid="kindling")
