"""Tensors that occur more than once are common among the random cases, in every way."""

import numpy as np

from loopnest.expression.notation import accesses
from loopnest.expression.parser import parse
from tests.fuzz.cases import Case, Given
from tests.fuzz.expressions import make_case

CASES = 400


def at_several_accesses(case: Case) -> bool:
    own = [(a.tensor, a.indices) for a in accesses(parse(case.statement).expression)]
    names = [tensor for tensor, _ in own]
    return len(set(names)) < len(names) and len(set(own)) > len(set(names))


def as_mask(case: Case) -> bool:
    statement = parse(case.statement)
    used = {a.tensor for a in accesses(statement.expression)}
    if statement.mask is not None:
        return statement.mask.access.tensor in used
    return any(case.mask is case.operands[name] for name in used)


def under_two_names(case: Case) -> bool:
    names = [name for name in case.operands if case.operands[name].array.size > 1]
    return len({id(case.operands[name]) for name in names}) < len(names)


def test_repeats_are_common():
    cases = [make_case(seed, "int8") for seed in range(CASES)]
    for kind in (at_several_accesses, as_mask, under_two_names):
        assert sum(map(kind, cases)) >= CASES / 100, kind.__name__


def test_equal_operands_are_one_object():
    given = Given(np.eye(3), "csr")
    operands = {"A": given, "B": given, "C": Given(np.ones((3, 3)))}
    got = Case("int8", "X[i,j] = A[i,k] * B[k,j] + C[i,j]", operands, mask=given).arguments()
    assert got["A"] is got["B"] is got["mask"] is not got["C"]
