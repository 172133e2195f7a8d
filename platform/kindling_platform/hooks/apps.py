from django.apps import AppConfig


class HooksConfig(AppConfig):
    name = "kindling_platform.hooks"
    label = "hooks"

    def ready(self) -> None:
        from kindling_billing.notices import notices_hear
        from kindling_platform.common.happenings import happenings_hear
        from kindling_platform.hooks.telling import happening_heard, notice_heard

        happenings_hear(happening_heard)
        notices_hear(notice_heard)
