"""Threads are raised where they pay off."""

from __future__ import annotations

import pytest

from service.domain.probe_plan import InputPlan
from service.probing.threads import WORTH_SHARING, worth_sharing

TOKENS = InputPlan((128,), "int64", high=1000)


@pytest.mark.parametrize(
    ("weights", "plan", "batch_size", "pays"),
    [
        ([(128, 128), (128,)], InputPlan((64,)), 64, False),
        ([(512, 512)], InputPlan((64,)), 64, False),
        ([(10, 64), (1024, 1024)], InputPlan((64,)), 64, True),
        ([(16, 16, 3, 3)], InputPlan((1, 8, 8)), 64, False),
        ([(64, 64, 3, 3)], InputPlan((3, 32, 32)), 16, True),
        ([(32, 8)], InputPlan((8, 8)), 64, False),
        ([(1024, 256)], InputPlan((128, 256)), 8, True),
        ([(768, 768)], TOKENS, 4, True),
        ([(64,)], InputPlan((64,)), 64, False),
        ([], InputPlan((64,)), 64, False),
    ],
)
def test_large_layers_are_shared(
    weights: list[tuple[int, ...]], plan: InputPlan, batch_size: int, pays: bool
) -> None:
    assert worth_sharing(weights, (plan,), batch_size) is pays


def test_the_limit_is_one_product() -> None:
    plan = (InputPlan((1,)),)
    assert worth_sharing([(2, WORTH_SHARING // 2)], plan, 1)
    assert not worth_sharing([(2, WORTH_SHARING // 2 - 1)], plan, 1)
