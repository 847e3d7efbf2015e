"""Heavy rows are common among the random cases, and are divided."""

from loopnest.expression.virtual import MIN_WEIGHT
from tests.fuzz.expressions import check, make_case
from tests.rtl.chips import Pair

SEEDS = range(5000, 5600)


def test_heavy_rows_are_divided() -> None:
    pair = Pair("single/int8")
    cases = [
        case for case in (make_case(seed, "int8") for seed in SEEDS) if case.heavy < MIN_WEIGHT
    ]
    divided = 0
    for case in cases:
        assert check(pair, case, rtl=False)
        report = pair.model.report
        assert report is not None
        divided += any("heavy row" in note for note in report.stored)
    assert len(cases) > 0.07 * len(SEEDS) and divided > 0.4 * len(cases)
