import django.db.models.deletion
import kindling_billing.models.base
from django.db import migrations, models

KINDS = [("charge", "Charge"), ("refund", "Refund"), ("dispute", "Dispute"), ("request", "Request"), ("other", "Other")]
VERDICTS = [("agrees", "Agrees"), ("waits", "Waits"), ("noted", "Noted"), ("differs", "Differs")]
EVENT_STATES = [("applied", "Applied"), ("ignored", "Ignored"), ("parked", "Parked"), ("closed", "Closed")]
CALL_STATES = [
    ("waiting", "Waiting"), ("done", "Done"), ("refused", "Refused"), ("stuck", "Stuck"), ("closed", "Closed"),
]


def cents(*, null=True):
    return models.BigIntegerField(blank=True, null=True) if null else models.BigIntegerField(default=0)


class Migration(migrations.Migration):
    dependencies = [("billing", "0008_costs")]
    operations = [
        migrations.CreateModel(
            name="ComparedDay",
            fields=[
                ("day", models.DateField(primary_key=True, serialize=False)),
                ("movements", models.PositiveIntegerField(default=0)),
                ("stripe_cents", cents(null=False)),
                ("booked_cents", cents(null=False)),
                ("moved_cents", cents(null=False)),
                ("asked_cents", cents(null=False)),
                ("differing", models.PositiveIntegerField(default=0)),
                ("waiting", models.PositiveIntegerField(default=0)),
                ("compared_at", models.DateTimeField(default=kindling_billing.models.base.utc_now)),
            ],
        ),
        migrations.CreateModel(
            name="ComparedMovement",
            fields=[
                ("id", models.CharField(max_length=80, primary_key=True, serialize=False)),
                ("day", models.DateField()),
                ("kind", models.CharField(choices=KINDS, max_length=8)),
                ("happened_at", models.DateTimeField()),
                ("owner_id", models.CharField(blank=True, max_length=32)),
                ("payment_id", models.CharField(blank=True, max_length=32)),
                ("intent_id", models.CharField(blank=True, max_length=64)),
                ("stripe_cents", cents()),
                ("booked_cents", cents()),
                ("moved_cents", cents()),
                ("asked_cents", cents()),
                ("verdict", models.CharField(choices=VERDICTS, max_length=8)),
                ("cause", models.CharField(blank=True, max_length=32)),
                ("detail", models.CharField(blank=True, max_length=300)),
                ("accepted_at", models.DateTimeField(blank=True, null=True)),
                ("accepted_by", models.CharField(blank=True, max_length=200)),
                ("accepted_note", models.CharField(blank=True, max_length=300)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["-day", "-happened_at", "-id"], name="billing_compared_day"),
                    models.Index(fields=["intent_id"], name="billing_compared_intent"),
                    models.Index(
                        condition=models.Q(("verdict", "differs")), fields=["day"], name="billing_compared_differing"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ProviderContact",
            fields=[
                ("name", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("made_at", models.DateTimeField(blank=True, null=True)),
                ("failed_at", models.DateTimeField(blank=True, null=True)),
                ("trouble", models.CharField(blank=True, max_length=300)),
            ],
        ),
        migrations.CreateModel(
            name="FailedRefund",
            fields=[
                ("id", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("amount_cents", models.BigIntegerField()),
                ("reason", models.CharField(blank=True, max_length=200)),
                (
                    "state",
                    models.CharField(
                        choices=[("open", "Open"), ("credited", "Credited"), ("paid", "Paid")],
                        default="open",
                        max_length=8,
                    ),
                ),
                ("note", models.CharField(blank=True, max_length=300)),
                ("heard_at", models.DateTimeField(default=kindling_billing.models.base.utc_now)),
                ("resolved_at", models.DateTimeField(blank=True, null=True)),
                ("resolved_by", models.CharField(blank=True, max_length=200)),
                (
                    "payment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="failed_refunds", to="billing.payment"
                    ),
                ),
            ],
        ),
        migrations.AlterField("stripeevent", "state", models.CharField(choices=EVENT_STATES, max_length=8)),
        migrations.AlterField(
            "outboxcall", "state", models.CharField(choices=CALL_STATES, default="waiting", max_length=8)
        ),
    ]
