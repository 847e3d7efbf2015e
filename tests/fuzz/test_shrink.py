"""Failing cases are minimised, and their text reproduces them."""

import re

import numpy as np
import pytest

from loopnest import Epilogue, Memory
from tests.fuzz.cases import Case, Given
from tests.fuzz.expressions import check, make_case
from tests.fuzz.reference import reference
from tests.fuzz.shrink import failure_of, paste, shrink
from tests.rtl.chips import Pair

MODEL = Pair("single/int8")


def run(case: Case) -> None:
    """Run a case on a model whose differences are never negative."""
    check(MODEL, case, rtl=False)
    assert "-" not in case.statement or np.all(reference(case).value >= 0), "a broken chip"


def failing_seeds() -> list[int]:
    found = (seed for seed in range(200) if failure_of(run, make_case(seed, "int8")))
    return [seed for seed, _ in zip(found, range(6), strict=False)]


def test_what_is_left_is_what_fails() -> None:
    for seed in failing_seeds():
        case = shrink(make_case(seed, "int8"), run)
        assert failure_of(run, case) is not None
        sizes = [given.array.size for given in case.operands.values()]
        stored = [np.count_nonzero(given.array) for given in case.operands.values()]
        # of a view, A[2*l] - A[l] is negative with three elements at the earliest
        assert max(sizes) <= 3 and sum(stored) == 1, case
        assert len(re.findall("[A-Z]", case.statement)) <= 3, case
        assert (case.order, case.out, case.epilogue, case.mask) == (None,) * 4, case
        assert (case.semiring, case.memory.latency) == ("plus_times", 4)


@pytest.mark.parametrize("seed", range(40))
def test_a_case_can_be_pasted(seed: int) -> None:
    """The text creates the same case, and asserts that it is correct."""
    case = make_case(seed, "bf16")
    text = paste(case, "shrunk/bf16")
    (made,) = re.findall(r"    case = (.*)", text)
    known = {"Case": Case, "Given": Given, "np": np, "Epilogue": Epilogue, "Memory": Memory}
    again = eval(made, known)
    assert repr(again) == repr(case)
    compile(text, "pasted", "exec")


def test_a_case_that_does_not_fail_is_none() -> None:
    with pytest.raises(AssertionError, match="does not fail"):
        shrink(make_case(1, "int8"), lambda case: None)
