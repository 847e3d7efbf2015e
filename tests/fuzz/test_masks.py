"""Random expressions under random masks, of all or of some of the result's indices."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import ChipError
from loopnest.notation import parse
from loopnest.split import OneKernelError
from loopnest_hw.registers import ErrorCode
from tests.fuzz.expressions import Case, make_case, reference
from tests.rtl.chips import Pair, on
from tests.rtl.kernels import dense

RTL_CASES = 40
MODEL_CASES = 150
MOST_REFUSED = 0.05


def check_masked(pair: Pair, case: Case, *, rtl: bool) -> bool:
    """Compute the case where a random mask has it; return False where it is refused."""
    rng = np.random.default_rng([case.seed, 1])
    expected, magnitude, terms = reference(case)
    indices = parse(case.statement).result.indices
    complement = bool(rng.random() < 0.5)
    chosen = [n for n in range(len(indices)) if rng.random() < 0.7] or [0]
    share = rng.choice([0, 0.1, 0.5, 0.9, 1])
    there = rng.random([expected.shape[n] for n in chosen]) < share
    rest = tuple(n for n in range(len(indices)) if n not in chosen)
    keep = np.broadcast_to(np.expand_dims(there, rest), expected.shape) != complement
    arguments: dict[str, Any] = {**case.operands, "order": case.order, "out": case.out}
    statement = case.statement
    if rest or rng.random() < 0.3:
        order = rng.permutation(len(chosen))
        arguments["where_it_is"] = sp.coo_array(there.transpose(order))
        places = ",".join(indices[chosen[n]] for n in order)
        statement += f" where {'not ' * complement}where_it_is[{places}]"
    else:
        arguments |= {"mask": sp.coo_array(there), "complement": complement}
    try:
        if rtl:
            got = pair.run(statement, memory=case.memory, **arguments)
        else:
            got = pair.model.compute(statement, **arguments)
    except OneKernelError:
        return False
    except ChipError as error:
        if error.code is ErrorCode.SLOTS and case.order is not None:
            return False
        raise
    found = dense(got) if not hasattr(got, "to_dense") else got.to_dense()
    bound = 2.0**-23 * (terms + 8) * magnitude + terms * 2.0**-120
    assert np.all(np.abs(found - expected * keep) <= bound * keep), f"{case}; {statement}"
    return True


def cases(first: int, count: int, dtype: str) -> list[Case]:
    """Return cases whose result has indices, from a seed on."""
    found = (replace(make_case(first + n, dtype), epilogue=None) for n in range(count))
    return [case for case in found if parse(case.statement).result.indices]


@on("shrunk/int8", "tiny/bf16")
def test_masks_on_the_rtl(pair: Pair) -> None:
    done = [check_masked(pair, case, rtl=True) for case in cases(0, RTL_CASES, pair.dtype)]
    assert done.count(False) <= MOST_REFUSED * len(done)


@pytest.mark.parametrize("name", ["single/int8", "single/bf16"])
def test_masks_on_the_model(name: str) -> None:
    pair = Pair(name)
    some = cases(1000, MODEL_CASES, pair.dtype)
    done = [check_masked(pair, case, rtl=False) for case in some]
    assert done.count(False) <= MOST_REFUSED * len(done)
