"""Dense operands that are stored without their zeros, on the RTL and the golden model."""

import numpy as np

from tests.rtl.chips import Pair, on
from tests.sw.pruned import forced, pruned

CASES = 40
MIN_STORED = 8


@on("shrunk/int8", "single/bf16")
def test_results_are_those_of_dense_operands(pair: Pair) -> None:
    stored = 0
    for seed in range(1000, 1000 + CASES):
        statement, operands = pruned(seed, pair.dtype)
        got = pair.run(statement, **operands)
        stored += pair.report.stored != ()
        expected = pair.model.compute(statement, **forced(operands, pair.dtype)).to_dense()
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected, f"{seed}: {statement}")
    assert stored >= MIN_STORED
