"""What `Chip.explain` says."""

import json

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, Epilogue

CHIP = Chip(dtype="int8", backend="model")


def sparse(*shape: int) -> sp.csr_array:
    return sp.csr_array(np.tri(*shape))


def test_one_kernel():
    got = CHIP.explain("X[i,j] = B[i,k] * C[k,j]", order="ikj", B=sparse(40, 20), C=sparse(20, 33))
    assert str(got).splitlines() == [
        "X[i,j] = B[i,k] * C[k,j]",
        "for i in 0..40",
        "  for k in B",
        "    for j in C",
        "      X[i,j] += B[i,k] * C[k,j]",
        "row 0, i: B all ones, follow, step 1; C hold; X fiber, step 1",
        "row 1, k: B scan, 1.6 blocks a fiber; C follow, step 1; X hold",
        "row 3, j: B hold; C scan, 1.2 blocks a fiber; X key, step 1",
        "lane: sum of B * C where B & C",
        "leaf: axpy, through the accumulator, to 40 compressed result fibers of 33",
        str(got).splitlines()[-1],
    ]
    assert str(got).splitlines()[-1].startswith("expected: ")
    assert CHIP.report is None, "nothing ran"


def test_to_dict():
    """All that is printed, as JSON takes it."""
    a = sparse(20, 20)
    made = CHIP.explain("X[i,j] = B[i,k] * C[k,l] * D[l,j] + B[i,j]", B=a, C=a, D=a)
    found = made.to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["statement"] == str(made.statement) and len(found["kernels"]) > 1
    text = str(made)
    for kernel in found["kernels"]:
        assert kernel["order"] == "".join(loop["index"] for loop in kernel["loops"])
        for loop in kernel["loops"]:
            assert f"for {loop['index']} in {loop['walks']}\n" in text
            assert f"row {loop['row']}, {loop['index']}: {loop['cells']}\n" in text
        assert f"lane: {kernel['lane']}\n" in text and f"leaf: {kernel['leaf']}, " in text
        assert f"expected: {kernel['expected']['cycles']:,.0f} cycles, " in text
        assert max(kernel["expected"]["stages"].values()) <= kernel["expected"]["cycles"]


def test_joins():
    a = sparse(9, 9)
    arrays = {"B": a, "C": a, "D": a, "v": np.ones(9)}
    for statement, domain, join in (
        ("X[i,j] = B[i,j] * C[i,j]", "B & C", "B & C"),
        ("X[i,j] = B[i,j] + C[i,j]", "B | C", "B | C"),
        ("X[i,j] = B[i,j] * (C[i,j] + D[i,j])", "B & C | B & D", "B & C | B & D"),
        ("X[i,j] = B[i,j] + v[j]", "0..9", "B | v"),
    ):
        named = {name: array for name, array in arrays.items() if f"{name}[" in statement}
        shown = str(CHIP.explain(statement, order="ij", **named))
        assert f"for j in {domain}\n" in shown
        assert f"row 3, j: join {join}; B scan, " in shown


def test_lanes():
    a = sparse(9, 9)
    arrays = {"B": a, "C": a, "D": a, "v": np.ones(9), "s": 3}
    for statement, semiring, lane in (
        ("X[i,j] = B[i,j] - C[i,j]", "plus_times", "B - C where B | C"),
        ("X[i,j] = B[i,j] * (C[i,j] - D[i,j])", "plus_times", "B * (C - D) where B & C | B & D"),
        ("t = B[i,j]", "plus_times", "sum of B where B"),
        ("x[i] = B[i,j] * s * v[j]", "plus_times", "sum of v * (B * s) where v & B & s"),
        ("X[i,j] = B[i,k] * C[k,j]", "min_plus", "minimum of B + C where B & C"),
        ("X[i,j] = B[i,j] + C[i,j] + D[i,j]", "or_and", "max(D, max(B, C)) where D | B | C"),
    ):
        named = {name: array for name, array in arrays.items() if name in statement}
        shown = str(CHIP.explain(statement, semiring=semiring, **named))
        assert f"\nlane: {lane}\n" in shown


def test_several_kernels():
    got = CHIP.explain("x[i] = b[i] - C[i,j] * d[j]", b=np.ones(9), C=sparse(9, 5), d=np.ones(5))
    assert [str(plan.statement) for plan in got.plans] == [
        "part1[i] = C[i,j] * d[j]",
        "x[i] = b[i] - part1[i]",
    ]
    assert str(got).startswith("x[i] = b[i] - C[i,j] * d[j]   in 2 kernels\n\npart1[i] = ")


def test_an_epilogue_that_makes_0_another_value():
    a = sparse(9, 9)
    plans = [
        CHIP.explain("X[i,j] = B[i,k] * C[k,j]", B=a, C=a, epilogue=epilogue).plans[0]
        for epilogue in (None, Epilogue(relu=True), Epilogue(bias=1))
    ]
    assert [plan.result.full for plan in plans] == [False, False, True]


def test_what_compute_refuses():
    a = sp.csr_array(np.eye(3))
    with pytest.raises(ValueError, match="epilogue: it makes 0"):
        CHIP.explain("Y[i,j] = A[i,j] * A[i,j]", A=a, mask=a, epilogue=Epilogue(bias=1))
    with pytest.raises(ValueError, match=r"out=.*: what the dense level adds would be 0"):
        CHIP.explain("Y[i,j] = A[i,j]", A=a, semiring="min_plus", out="compressed,dense")
