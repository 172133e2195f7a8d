"""What workers leave in Valkey of their comparisons is what gateways show to Prometheus, figure by figure."""

from dataclasses import fields

from kindling_platform.gateway.books import DRIFT, WITNESSES
from kindling_platform.usage.comparisons import COMPARED_AT
from kindling_platform.usage.witnesses import Witnesses
from kindling_workers.wallets import Refreshed


def test_every_figure_of_the_comparisons_has_its_metric():
    assert {field for field, *_ in DRIFT} == {one.name for one in fields(Refreshed)} | {COMPARED_AT}
    assert {field for field, *_ in WITNESSES} == {one.name for one in fields(Witnesses)}


def test_no_two_figures_share_a_name():
    names = [name for _, name, *_ in (*DRIFT, *WITNESSES)]
    assert len(names) == len(set(names))
