"""Semirings on the RTL, against the golden model and NumPy."""

import numpy as np
import pytest

from loopnest.expression.semiring import SEMIRINGS
from tests.rtl.chips import Pair, on
from tests.sw.semirings import clipped, product, random_matrix, stored


@on("shrunk/int8", "single/bf16")
@pytest.mark.parametrize("name", SEMIRINGS)
def test_products(pair: Pair, name: str) -> None:
    """By rows, and by inner products; compressed, and dense with untouched elements."""
    rng = np.random.default_rng(len(name))
    a, b = random_matrix(rng, (17, 23)), random_matrix(rng, (23, 37))
    expected, has = product(name, a, b)
    statement = "C[i,j] = A[i,k] * B[k,j]"
    for order in ("ikj", "ijk"):
        values, stores = stored(pair.run(statement, A=a, B=b, order=order, semiring=name))
        np.testing.assert_array_equal(stores, has)
        np.testing.assert_array_equal(values, np.where(has, expected, 0))
    got = pair.run(statement, A=a, B=b, out="dense,dense", semiring=name)
    np.testing.assert_array_equal(got, clipped(expected, pair.dtype))


@on("shrunk/int8", "single/bf16")
@pytest.mark.parametrize("name", ["min_plus", "max_times"])
def test_copies(pair: Pair, name: str) -> None:
    """Many terms of few keys: copies of a key are combined by the same reduction."""
    rng = np.random.default_rng(7)
    a, b = random_matrix(rng, (2, 60), 0.9), random_matrix(rng, (60, 5), 0.9)
    expected, _ = product(name, a, b)
    got = pair.run("C[i,j] = A[i,k] * B[k,j]", A=a, B=b, order="ikj", semiring=name)
    np.testing.assert_array_equal(got.toarray(), expected)
