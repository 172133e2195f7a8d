"""The gateway also reads the price of reasoning where it has its own, and why an organisation is stopped."""

from importlib import import_module

from django.db import migrations

MONEY = import_module("kindling_platform.deployments.migrations.0004_money_views")
REASON = f"""CASE WHEN o.suspended_at IS NOT NULL THEN 'operator' WHEN {MONEY.UNPAID} THEN 'unpaid' ELSE '' END
    AS suspended_for"""
FROM_KEYS = "FROM keys_apikey k"
assert MONEY.KEY.count(FROM_KEYS) == 1
KEY = MONEY.KEY.replace(FROM_KEYS, f", {REASON} {FROM_KEYS}")

OLD_MODEL = MONEY.MODEL.format(plan=MONEY.OF_THE_BOOK)
PRICES, LAST = "cached_input_picousd, output_picousd\n        FROM", "c.created_at\n    FROM callable"
assert OLD_MODEL.count(PRICES) == OLD_MODEL.count(LAST) == 1
MODEL = OLD_MODEL.replace(PRICES, PRICES.replace("\n", ", reasoning_picousd\n", 1)).replace(
    LAST, LAST.replace("\n", ", p.reasoning_picousd\n", 1)
)
OUTPUT = "version.output_picousd\n"
assert MONEY.PLAN_PRICE.count(OUTPUT) == 1
PLAN_PRICE = MONEY.PLAN_PRICE.replace(OUTPUT, "version.output_picousd, version.reasoning_picousd\n")


def replace(name: str, new: str, old: str) -> migrations.RunSQL:
    """A view with columns added behind the others; to take them away it is made anew."""
    return migrations.RunSQL(f"CREATE OR REPLACE VIEW {name} AS {new}", f"DROP VIEW {name}; CREATE VIEW {name} AS {old}")


class Migration(migrations.Migration):
    dependencies = [
        ("deployments", "0005_alias_view"),
        ("billing", "0006_rerating"),
    ]
    operations = [
        replace("gateway_key", KEY, MONEY.KEY),
        replace("gateway_model", MODEL, OLD_MODEL),
        replace("gateway_plan_price", PLAN_PRICE, MONEY.PLAN_PRICE),
    ]
