"""The Sparse Abstract Machine's expressions, and more, on the RTL."""

import numpy as np
import pytest
import scipy.sparse as sp

from tests.rtl.chips import Pair, on
from tests.rtl.kernels import dense, random_array
from tests.sw.expressions import MORE, SAM

SIZES = {"i": 5, "j": 19, "k": 6, "l": 3}


@on("shrunk/int8", "single/bf16")
@pytest.mark.parametrize("name", [*SAM, *MORE])
def test_expressions(pair: Pair, name: str) -> None:
    case = (SAM | MORE)[name]
    rng = np.random.default_rng(len(name))
    operands, plain = {}, []
    for operand, indices in case.operands.items():
        # small integers: sums of all sizes are exact, products of sums as well
        array = np.sign(random_array(rng, tuple(SIZES.get(i, 2) for i in indices), pair.dtype))
        plain.append(array)
        operands[operand] = sp.coo_array(array) if operand.isupper() else array
    got = pair.run(case.statement, **operands)
    np.testing.assert_array_equal(dense(got), case.reference(*plain))
