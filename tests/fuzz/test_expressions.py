"""Some of the random expressions of `make fuzz`, in every number format and on every rare path."""

from dataclasses import replace

import pytest

from loopnest_hw.config import LANES
from tests.fuzz.expressions import check, make_case
from tests.rtl.chips import SEVERAL, Pair, on

RTL_CASES = 100
MODEL_CASES = 400
PANEL_CASES = 150
MAX_REFUSED = 0.05


@on("shrunk/int8", SEVERAL, "shrunk/bf16", "single/bf16")
def test_expressions_on_the_rtl(pair: Pair) -> None:
    done = [check(pair, make_case(seed, pair.dtype)) for seed in range(RTL_CASES)]
    assert done.count(False) <= MAX_REFUSED * len(done)


@pytest.mark.parametrize("name", ["single/int8", "single/bf16/multipliers=16"])
def test_expressions_on_the_model(name: str) -> None:
    pair = Pair(name)
    seeds = range(1000, 1000 + MODEL_CASES)
    done = [check(pair, make_case(seed, pair.dtype), rtl=False) for seed in seeds]
    assert done.count(False) <= MAX_REFUSED * len(done)


@pytest.mark.parametrize("name", ["single/int8", "single/bf16"])
def test_every_expression_in_panels_on_the_model(name: str) -> None:
    pair = Pair(name)
    cases = (make_case(seed, pair.dtype) for seed in range(2000, 2000 + PANEL_CASES))
    done = [check(pair, replace(case, panel=LANES), rtl=False) for case in cases]
    assert done.count(False) <= MAX_REFUSED * len(done)
