"""Every sum of two terms over panels of an index, with terms that have no entries in some panels
or in none: such a term may be the only one with one of the result's indices.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, product

import numpy as np
import pytest

from loopnest_hw.config import LANES
from tests.fuzz.cases import Case, Given
from tests.fuzz.expressions import check
from tests.rtl.chips import Pair

WIDE = "l"
SIZES = {"i": 2, "j": 1, WIDE: LANES + 1}
"""Only the last index has several panels: two."""

CASES = 576


def _subsets(indices: Sequence[str]) -> list[tuple[str, ...]]:
    return [some for n in range(len(indices) + 1) for some in combinations(indices, n)]


def _written(name: str, indices: Sequence[str]) -> str:
    return f"{name}[{','.join(indices)}]" if indices else name


def _operands(indices: tuple[str, ...]) -> Iterator[Given]:
    """Yield an operand with entries in all panels, in the first, and in none; and a dense one."""
    shape = [SIZES[i] for i in indices]
    array = np.asarray(np.arange(np.prod(shape)) % 5 - 2.0).reshape(shape)
    yield Given(array)
    if not indices:
        return
    yield Given(array, "coo")
    yield Given(np.zeros(shape), "coo")
    if WIDE in indices:
        yield Given(array * (np.arange(SIZES[WIDE]) < LANES), "coo")


def _cases(semiring: str) -> Iterator[Case]:
    """Yield the cases in which the wide index alone is summed over."""
    for a, b in product(_subsets(list(SIZES)), repeat=2):
        used = {*a, *b}
        if WIDE not in used:
            continue
        result = sorted(used - {WIDE})
        statement = f"{_written('X', result)} = {_written('A', a)} + {_written('B', b)}"
        for one, other in product(_operands(a), _operands(b)):
            operands = {"A": one, "B": other}
            yield Case("int8", statement, operands, semiring=semiring, panel=LANES)


@pytest.mark.parametrize("semiring", ["plus_times", "min_plus"])
def test_sums_over_panels(semiring: str) -> None:
    pair = Pair("single/int8", max_chips=1)
    count = 0
    for case in _cases(semiring):
        try:
            assert check(pair, case, rtl=False)
        except Exception as error:
            error.add_note(repr(case))
            raise
        count += 1
    assert count == CASES
