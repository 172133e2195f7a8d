"""The bound that fair queueing promises, against a tenant that floods the engine."""

import random

import pytest

from kindling_engine.scheduler.fairness import OUTPUT_WEIGHT, PROMPT_WEIGHT
from kindling_engine.scheduler.request import Request
from kindling_schedules import Pretended

MAX_PROMPT, MAX_TOKENS, MAX_BATCH = 40, 20, 4


def _serve(weights: dict[str, float], seed: int, steps: int) -> list[dict[str, float]]:
    """Weighted service of each tenant after every step, all waiting throughout; one floods with long prompts."""
    world = Pretended(num_blocks=60, max_batch=MAX_BATCH, step_tokens=64)
    chance = random.Random(seed)
    waiting = dict.fromkeys(weights, 0)
    served = dict.fromkeys(weights, 0.0)
    started: set[str] = set()
    history: list[dict[str, float]] = []
    made = 0
    for _ in range(steps):
        for tenant, weight in weights.items():
            while waiting[tenant] < (50 if tenant == "flood" else MAX_BATCH + 2):
                made += 1
                long = tenant == "flood"
                world.add(
                    Request(
                        id=f"{tenant}/{made}",
                        tokens=[
                            chance.randrange(1000)
                            for _ in range(MAX_PROMPT if long else chance.randint(2, 8))
                        ],
                        max_tokens=MAX_TOKENS if long else chance.randint(1, 6),
                        grant=MAX_TOKENS,
                        tenant=tenant,
                        weight=weight,
                    )
                )
                waiting[tenant] += 1
        plan = world.step()
        assert plan is not None
        for row in plan.rows:
            request = row.request
            if request.id not in started:
                started.add(request.id)
                waiting[request.tenant] -= 1
                served[request.tenant] += PROMPT_WEIGHT * request.prompt_len / request.weight
            served[request.tenant] += OUTPUT_WEIGHT * row.samples / request.weight
        history.append(dict(served))
    return history


@pytest.mark.parametrize(
    "weights",
    [{"flood": 1.0, "quiet": 1.0}, {"flood": 1.0, "quiet": 1.0, "third": 1.0}, {"flood": 1.0, "heavy": 3.0}],
    ids=["two", "three", "weighted"],
)
def test_tenants_that_wait_are_served_alike_within_the_bound(weights: dict[str, float]):
    bound = 2 * (PROMPT_WEIGHT * MAX_PROMPT + OUTPUT_WEIGHT * MAX_BATCH * MAX_TOKENS) / min(weights.values())
    for seed in range(3):
        history = _serve(weights, seed, steps=1500)
        assert min(history[-1].values()) > 2 * bound, "the bound says nothing about so little service"
        # Over every interval: the difference may neither rise nor fall by more than the bound.
        for one in weights:
            for other in weights:
                gaps = [served[one] - served[other] for served in history]
                assert max(gaps) - min(gaps) <= bound


def test_a_newcomer_is_not_held_up_by_the_age_of_anothers_requests():
    world = Pretended(num_blocks=60, max_batch=1)
    for index in range(30):
        world.add(Request(id=f"flood{index}", tokens=[index + 1] * 8, max_tokens=4, grant=4, tenant="flood"))
    world.now_s += 60.0
    world.step()
    world.add(Request(id="quiet", tokens=[90] * 8, max_tokens=4, grant=4, tenant="quiet"))
    while "quiet" not in world.ended:
        world.step()
    assert len(world.ended) <= 3
