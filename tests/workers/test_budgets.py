"""What was spent of budgets follows the books, and people are told of it once."""

from datetime import timedelta

import pytest
import redis
from django.core import mail

from kindling_admission import amounts, hold_place
from kindling_billing.budgets import day_of, month_of, spent_keys
from kindling_billing.limits import Limits
from kindling_billing.selectors import balance_get
from kindling_fake_driver import FakeDriver
from kindling_gpu_time import HOUR_COST, gpu_price, held
from kindling_people import make_customer
from kindling_platform.accounts.services import user_register
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.actors import SYSTEM
from kindling_platform.common.clock import now
from kindling_platform.keys.alerts import alerts_send
from kindling_platform.keys.limits import limits_set
from kindling_platform.keys.models import BudgetAlert, LimitSet
from kindling_platform.keys.services import key_create
from kindling_platform.usage.comparisons import DRIFT_KEY
from kindling_platform.usage.models import UsageSeriesDay
from kindling_rows import DOLLAR, RECORD_COST_PICOUSD, Shop, make_shop
from kindling_workers.billing import gpu_time_bill
from kindling_workers.ingest import logs_ingest
from kindling_workers.tasks import limits as limit_tasks
from kindling_workers.valkey import valkey_client
from kindling_workers.wallets import Wallets

pytestmark = pytest.mark.django_db(transaction=True)
COST_NANO = -(-RECORD_COST_PICOUSD // 1000)


@pytest.fixture
def valkey() -> "redis.Redis":
    return valkey_client()


@pytest.fixture
def shop() -> Shop:
    return make_shop()


def budget(shop: Shop, picousd: int) -> str:
    """Give the whole organisation a budget for the month; its name in Valkey."""
    limits_set(org=shop.org, values={"budget_month_picousd": picousd}, actor=SYSTEM)
    return f"organisation:{shop.org.id}"


def now_ms() -> int:
    return int(now().timestamp() * 1000)


def test_a_posting_moves_a_budget_from_held_to_spent(shop: Shop, valkey: "redis.Redis"):
    name = budget(shop, 10**12)
    driver, record = FakeDriver(), shop.record(finished_ms=now_ms())
    balance = balance_get(owner_id=shop.org.id)
    hold_place(
        valkey, shop.org.id, record.request_id, nano=9_000, picousd=balance.picousd, version=balance.version,
        budgets={"organisation": Limits(budget_month_nano=10**9)},
    )  # fmt: skip
    assert amounts(valkey, spent_keys(name)[1]) == {record.request_id: 9_000}
    driver.write(shop.replica, record)
    logs_ingest(driver, Wallets(valkey))
    assert amounts(valkey, spent_keys(name)[1]) == {}
    spent = valkey.hgetall(spent_keys(name)[0])
    assert (spent["ds"], spent["ms"], spent["t"], spent["h"]) == (*[str(COST_NANO)] * 3, "0")
    assert (spent["d"], spent["m"]) == (day_of(now()), month_of(now()))


def test_a_counter_that_drifted_is_put_right_and_counted(shop: Shop, valkey: "redis.Redis"):
    name = budget(shop, 10**12)
    driver, wallets = FakeDriver(), Wallets(valkey)
    record = shop.record(finished_ms=now_ms())
    balance = balance_get(owner_id=shop.org.id)
    hold_place(
        valkey, shop.org.id, record.request_id, nano=5, picousd=balance.picousd, version=balance.version
    )
    driver.write(shop.replica, record)
    logs_ingest(driver, wallets)
    valkey.hincrby(spent_keys(name)[0], "ms", 777)
    done = wallets.refresh()
    assert (done.budgets, done.budgets_drifted, done.budget_drift_nano) == (1, 1, 777)
    assert valkey.hget(spent_keys(name)[0], "ms") == str(COST_NANO)
    assert valkey.hget(DRIFT_KEY, "budget_drift_nano") == "777"
    assert wallets.refresh().budgets_drifted == 0


def test_the_last_month_is_not_this_months(shop: Shop, valkey: "redis.Redis"):
    name = budget(shop, 10**12)
    day = now() - timedelta(days=40)
    for facet, value in (("all", ""), ("key", "k")):
        UsageSeriesDay.objects.create(
            organisation_id=shop.org.id, day=day, facet=facet, value=value, cost_picousd=5_000
        )
    Wallets(valkey).posted(owner_id=shop.org.id, balance=balance_get(owner_id=shop.org.id), request_ids=[])
    spent = valkey.hgetall(spent_keys(name)[0])
    assert (spent["ds"], spent["ms"], spent["t"]) == ("0", "0", "5")


def test_posted_gpu_time_counts_in_the_organisations_budget_once_and_in_no_keys(
    shop: Shop, valkey: "redis.Redis"
):
    moment = now()
    gpu_price(shop.model.id, since=moment - timedelta(days=100))
    name = budget(shop, 3 * HOUR_COST)
    key, _ = key_create(org=shop.org, name="k", scopes=["inference"], actor=SYSTEM)
    limits_set(org=shop.org, values={"budget_total_picousd": DOLLAR}, actor=SYSTEM, key_id=key.id)
    month = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    # Two hours of the month before, and two of this one, or as many as are over on its first morning.
    over = min((moment - month) // timedelta(hours=1), 2)
    for place, (start, hours) in enumerate(((month - timedelta(hours=2), 2), (month, over))):
        if hours:
            held(shop.deployment, start=start, lasts=timedelta(hours=hours), name=f"r{place}")
    wallets = Wallets(valkey)
    gpu_time_bill(wallets, moment=moment)
    spent = valkey.hgetall(spent_keys(name)[0])
    hour_nano = HOUR_COST // 1000
    assert (int(spent["ms"]), int(spent["t"])) == (over * hour_nano, (2 + over) * hour_nano)
    assert int(spent["ds"]) == (over * hour_nano if moment.day == 1 else 0)
    assert int(spent["v"]) == balance_get(owner_id=shop.org.id).version
    assert valkey.hget(spent_keys(f"key:{key.id}")[0], "t") == "0"
    told = [(50, 2 * HOUR_COST)] if over == 2 else []
    assert [(one.percent, one.spent_picousd) for one in BudgetAlert.objects.all()] == told
    gpu_time_bill(wallets, moment=moment)
    done = wallets.refresh()
    assert (done.budgets, done.budgets_drifted) == (2, 0)
    # All but the moment when it was looked at last.
    assert valkey.hgetall(spent_keys(name)[0]) | {"x": spent["x"]} == spent


def test_each_share_of_a_budget_is_told_once(shop: Shop, valkey: "redis.Redis", settings):
    budget(shop, 3 * RECORD_COST_PICOUSD)
    owner = user_register(email="owner@example.test", password="correct horse battery staple 7")
    owner.memberships.update(organisation=shop.org, role="admin")
    stranger = make_customer("stranger")
    driver, wallets = FakeDriver(), Wallets(valkey)
    told = []
    for _ in range(4):
        driver.write(shop.replica, shop.record(finished_ms=now_ms()))
        logs_ingest(driver, wallets)
        wallets.refresh()
        limit_tasks.alerts()
        told.append(
            [letter.subject.partition(" ")[0] for letter in mail.outbox if letter.to == [owner.email]]
        )
    assert told == [[], ["50"], ["50", "80", "100"], ["50", "80", "100"]]
    assert stranger.user.email not in {address for letter in mail.outbox for address in letter.to}
    assert "$" in mail.outbox[0].body
    assert "GPU time of your own deployments count" in mail.outbox[0].body
    assert "your own deployments are stopped until" in mail.outbox[-1].body
    assert alerts_send() == 0
    assert BudgetAlert.objects.count() == 3
    assert AuditEvent.objects.filter(action="budget.reached", organisation_id=shop.org.id).count() == 3


def test_a_letter_that_cannot_be_sent_is_sent_later(shop: Shop, valkey: "redis.Redis", settings, monkeypatch):
    budget(shop, RECORD_COST_PICOUSD)
    limits = LimitSet.objects.get()
    owner = user_register(email="late@example.test", password="correct horse battery staple 7")
    owner.memberships.update(organisation=shop.org, role="owner")
    BudgetAlert.objects.create(
        organisation=shop.org,
        limit_set=limits,
        period="total",
        percent=80,
        budget_picousd=10,
        spent_picousd=8,
    )
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    limit_tasks.alerts()
    assert BudgetAlert.objects.get().sent_at is None
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    limit_tasks.alerts()
    assert BudgetAlert.objects.get().sent_at is not None
