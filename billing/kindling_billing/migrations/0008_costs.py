import kindling_billing.models.base
from django.db import migrations, models

TABLES = ("billing_hourcost", "billing_hostedprice")
PROTECT = "".join(
    f"CREATE TRIGGER {table}_rows_stay BEFORE UPDATE OR DELETE ON {table}"
    " FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();"
    f"CREATE TRIGGER {table}_not_emptied BEFORE TRUNCATE ON {table}"
    " FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_change();"
    for table in TABLES
)
UNPROTECT = "".join(
    f"DROP TRIGGER {table}_rows_stay ON {table}; DROP TRIGGER {table}_not_emptied ON {table};" for table in TABLES
)


class Migration(migrations.Migration):
    dependencies = [("billing", "0007_payment_provider")]
    operations = [
        migrations.CreateModel(
            name="HourCost",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("sku", models.CharField(blank=True, default="", max_length=64)),
                ("picousd_per_hour", models.BigIntegerField()),
                ("valid_from", models.DateTimeField(default=kindling_billing.models.base.utc_now)),
                ("note", models.CharField(blank=True, max_length=200)),
                ("created_at", models.DateTimeField(default=kindling_billing.models.base.utc_now)),
                ("created_by", models.CharField(blank=True, max_length=200)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("picousd_per_hour__gte", 0)), name="hours_cost_something"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="HostedPrice",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("sku", models.CharField(max_length=64)),
                ("input_picousd", models.BigIntegerField()),
                ("cached_input_picousd", models.BigIntegerField(blank=True, null=True)),
                ("output_picousd", models.BigIntegerField()),
                ("source", models.CharField(max_length=200)),
                ("quoted_on", models.DateField()),
                ("created_at", models.DateTimeField(default=kindling_billing.models.base.utc_now)),
                ("created_by", models.CharField(blank=True, max_length=200)),
            ],
            options={
                "indexes": [models.Index(fields=["sku", "-id"], name="billing_hosted_sku")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("input_picousd__gte", 0),
                            ("output_picousd__gte", 0),
                            models.Q(
                                ("cached_input_picousd", None), ("cached_input_picousd__gte", 0), _connector="OR"
                            ),
                        ),
                        name="quotes_are_not_negative",
                    )
                ],
            },
        ),
        migrations.RunSQL(PROTECT, UNPROTECT),
    ]
