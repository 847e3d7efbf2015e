"""Minimised cases found by the fuzzer: each failed once."""

import numpy as np
import pytest

from loopnest import Epilogue
from loopnest_hw.config import LANES
from tests.fuzz.cases import Case, Given
from tests.fuzz.expressions import check
from tests.rtl.chips import Pair

FOUND = {
    "a tensor beside a view of it, which walks more than that has coordinates": Case(
        "int8",
        "X[i,j] = A[i,j] - A[i,j+2]",
        {"A": Given(np.array([[1, 2, 0, 3, 4], [0, 0, 0, 0, 5]]), "csc")},
    ),
    "a dense level instead of a tensor's own, which cannot be walked, hides what is absent": Case(
        "bf16",
        "X[i] = B[j,l] * C[i,j,k]",
        {
            "B": Given(
                np.array([[1], [0]]), "tensor", levels=("compressed", "compressed"), modes=(0, 1)
            ),
            "C": Given(
                np.zeros((1, 2, 1)),
                "tensor",
                levels=("dense", "compressed", "dense"),
                modes=(1, 0, 2),
            ),
        },
        order=("k", "i", "j", "l"),
        semiring="min_plus",
    ),
    "a view of a tensor whose outermost level is compressed": Case(
        "int8",
        "X[k,i,j] = A[j,k,i] + A[j+1,k,i]",
        {
            "A": Given(
                np.arange(24).reshape(4, 2, 3) % 5,
                "tensor",
                levels=("compressed", "dense", "dense"),
                modes=(0, 1, 2),
            )
        },
        order=("j", "i", "k"),
    ),
    "a zero that is stored counts, whether its tensor is converted or not": Case(
        "int8",
        "X[i,j] = A[k,i,j] * C[k]",
        {
            "A": Given(
                np.array([[[0, -1, 0, 0]], [[0, -2, 0, 0]]]),
                "tensor",
                levels=("compressed", "dense", "dense"),
                modes=(1, 0, 2),
            ),
            "C": Given(np.array([0, 3])),
        },
        order=("j", "k", "i"),
        out=("compressed", "compressed"),
        semiring="min_plus",
    ),
    "an epilogue makes 0 of the semiring's zero": Case(
        "bf16",
        "X[j] = A[2*j+i,i]",
        {"A": Given(np.array([[1, 0], [0, 0], [0, 2], [0, 0], [0, 0]]))},
        out=("dense",),
        epilogue=Epilogue(relu=True),
        semiring="max_times",
    ),
    "an epilogue of all coordinates, of which an operand lacks some": Case(
        "bf16",
        "X[i,j,k] = A[i,j] * B[k]",
        {"A": Given(np.array([[1, 0, 2], [0, 0, 3]]), "csr"), "B": Given(np.arange(4))},
        out=("dense", "dense", "dense"),
        epilogue=Epilogue(bias=1.0),
        semiring="min_plus",
    ),
    "a view among indices that are walked as one": Case(
        "bf16",
        "X[i,j] = B[l,l,k] * C[i,j]",
        {
            "B": Given(np.array([[[2], [0]], [[1], [3]]]), "coo"),
            "C": Given(np.array([[4, 5]])),
        },
        order=("i", "k", "l", "j"),
    ),
    "a term without entries alone has an index of the result, the other is summed in panels": Case(
        "int8",
        "X[j] = A[j,l] + B[l]",
        {"A": Given(np.zeros((1, LANES + 1)), "coo"), "B": Given(np.arange(LANES + 1) % 4)},
        panel=LANES,
    ),
    "a term without entries alone has an outer index of a result, summed in panels": Case(
        "int8",
        "X[l,i] = A[j,i] - B[l,j,i] * C[i]",
        {
            "A": Given(np.arange(2 * (LANES + 1)).reshape(-1, 2) % 4),
            "B": Given(np.zeros((3, LANES + 1, 2)), "coo"),
            "C": Given(np.array([1, 2])),
        },
        epilogue=Epilogue(relu=True, bias=2.0),
        panel=LANES,
    ),
}


@pytest.mark.parametrize("preset", ["single", "shrunk"])
@pytest.mark.parametrize("name", FOUND)
def test_found(name: str, preset: str) -> None:
    """A chip with few scanners may refuse a case."""
    case = FOUND[name]
    assert check(Pair(f"{preset}/{case.dtype}"), case, rtl=False) or preset == "shrunk"
