"""Masked results on the RTL: the rows' tables with a mask among the join inputs."""

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Epilogue
from tests.rtl.chips import Pair, on
from tests.rtl.kernels import dense, random_array


@on("shrunk/int8", "single/bf16")
@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("order", ["ikj", "ijk", "jki"])
def test_products(pair: Pair, order: str, complement: bool) -> None:
    rng = np.random.default_rng(3)
    shapes = {"A": (7, 19), "B": (19, 35), "M": (7, 35)}
    arrays = {n: np.sign(random_array(rng, shape, pair.dtype)) for n, shape in shapes.items()}
    A, B, M = (sp.csr_array(arrays[name]) for name in "ABM")
    got = pair.run("X[i,j] = A[i,k] * B[k,j]", A=A, B=B, mask=M, complement=complement, order=order)
    keep = (arrays["M"] != 0) != complement
    np.testing.assert_array_equal(dense(got), arrays["A"] @ arrays["B"] * keep)


@on("shrunk/int8", "single/bf16")
@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize(
    "statement",
    ["X[i,j,k] = B[i,j,k] + C[i,j,k]", "X[i,j,k] = B[i,j,k] - c[i,j,k]", "X[i,j,k] = c[i,j,k]"],
)
def test_elements(pair: Pair, statement: str, complement: bool) -> None:
    """All levels of the mask, the outer ones as well."""
    rng = np.random.default_rng(4)
    B, C, M = (np.sign(random_array(rng, (3, 4, 37), pair.dtype)) for _ in range(3))
    M[1] = 0
    known = {"B": sp.coo_array(B), "C": sp.coo_array(C), "c": C}
    operands = {name: known[name] for name in "BCc" if f"{name}[" in statement}
    got = pair.run(statement, mask=sp.coo_array(M), complement=complement, **operands)
    left = B if "B[" in statement else 0
    right = -C if " - " in statement else C
    np.testing.assert_array_equal(dense(got), (left + right) * ((M != 0) != complement))


@on("shrunk/int8", "single/bf16")
def test_a_bias_in_the_rows_that_a_mask_keeps(pair: Pair) -> None:
    """All coordinates of a kept row are visited, and none of other rows."""
    rng = np.random.default_rng(5)
    A, b = (np.sign(random_array(rng, shape, pair.dtype)) for shape in ((9, 12), (12, 37)))
    for kept in ([], [2, 3, 8]):
        M = np.isin(np.arange(9), kept)
        got = pair.run(
            "X[i,j] = A[i,k] * b[k,j] where M[i]",
            A=sp.csr_array(A),
            b=b,
            M=M,
            epilogue=Epilogue(bias=np.arange(37)),
        )
        np.testing.assert_array_equal(dense(got), (A @ b + np.arange(37)) * M[:, None])
