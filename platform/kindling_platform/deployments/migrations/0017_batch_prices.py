"""The gateway also reads which part of a price batch work pays."""

from importlib import import_module

from django.db import migrations

BEFORE = import_module("kindling_platform.deployments.migrations.0006_reasoning_and_suspension")
PRICES, LAST = "reasoning_picousd\n        FROM", "p.reasoning_picousd\n    FROM callable"
assert BEFORE.MODEL.count(PRICES) == BEFORE.MODEL.count(LAST) == 1
MODEL = BEFORE.MODEL.replace(PRICES, PRICES.replace("\n", ", batch_percent\n", 1)).replace(
    LAST, LAST.replace("\n", ", p.batch_percent\n", 1)
)
REASONING = "version.reasoning_picousd\n"
assert BEFORE.PLAN_PRICE.count(REASONING) == 1
PLAN_PRICE = BEFORE.PLAN_PRICE.replace(REASONING, "version.reasoning_picousd, version.batch_percent\n")


class Migration(migrations.Migration):
    dependencies = [("deployments", "0016_deployment_view")]
    operations = [
        BEFORE.replace("gateway_model", MODEL, BEFORE.MODEL),
        BEFORE.replace("gateway_plan_price", PLAN_PRICE, BEFORE.PLAN_PRICE),
    ]
