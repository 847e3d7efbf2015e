"""Random tensor expressions, each determined by its seed, and the check of their results."""

import string
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loopnest import ChipError, Epilogue, Memory
from loopnest.expression import virtual
from loopnest.expression.notation import Access, Binary, Expression, Negate, Statement, accesses
from loopnest.expression.parser import parse
from loopnest.expression.split import OneKernelError
from loopnest.formats import panels
from loopnest.formats.panels import PANEL
from loopnest_hw.config import LANES
from loopnest_hw.registers import ErrorCode
from tests.rtl.chips import Pair

from .cases import Case, Given, as_array, entries_of
from .heavy import heavy_case
from .patterns import LEVELS, random_array, random_format, random_size
from .reference import RINGS, SUBTRACTING, kept_rows, reference, zero_of
from .repeats import mask_of_operands, repeat_tensors, share_operand
from .views import random_views, viewed_modes

MAX_OPERANDS = 3
MAX_INDICES = 4
MAX_SIZE = 40
MAX_ELEMENTS = 30_000
"""Maximum size of the space of a term's indices, all of which NumPy computes."""

LATENCIES = (1, 4, 9, 30, 100)

OTHER_RING = 0.35
VIEWS = 0.35
MASKS = 0.25
REPEATS = 0.25
PANELS = 0.3
HEAVY = 0.1
"""Shares of the cases with a semiring other than (+, x), with views, with masks, with a tensor
that occurs more than once, with panels so small that indices have several, and with heavy rows.
"""


def make_case(seed: int, dtype: str, *, plain: bool = False) -> Case:
    """Return the case of this seed for a chip of this number format.

    ``plain``: without other semirings, repeated tensors, views and masks.
    """
    rng = np.random.default_rng(seed)
    other = np.random.default_rng([seed, 3])
    statement = _random_statement(rng)
    sizes = _random_sizes(rng, statement)
    semiring = "plus_times"
    if not plain and other.random() < OTHER_RING:
        semiring = str(other.choice(list(RINGS)))
    if semiring not in SUBTRACTING:
        statement = replace(statement, expression=_without_signs(statement.expression))
    if not plain and other.random() < REPEATS:
        statement, sizes = repeat_tensors(other, statement, sizes) or (statement, sizes)
    shapes = {a.name: tuple(sizes[i] for i in a.indices) for a in statement.accesses}
    if not plain and other.random() < VIEWS:
        statement, shapes = random_views(other, statement, sizes) or (statement, shapes)
    exact = dtype == "int8" or bool(rng.random() < 0.7)
    operands: dict[str, Given] = {}
    for access in statement.accesses:
        if access.tensor not in operands:
            array = random_array(rng, shapes[access.tensor], exact)
            if semiring == "max_times":  # with negative values this would not be a semiring
                array = np.abs(array)
            viewed = viewed_modes(statement, access.tensor)
            operands[access.tensor] = random_format(rng, array, dense=viewed)
    if not plain and other.random() < REPEATS:
        operands = share_operand(other, statement, operands)
    order = None
    if rng.random() < 0.6:
        order = tuple(str(i) for i in rng.permutation(statement.indices))
    out = None
    if rng.random() < 0.6:
        out = tuple(str(level) for level in rng.choice(LEVELS, len(statement.result.indices)))
    epilogue = None
    if rng.random() < 0.15:
        epilogue = Epilogue(relu=bool(rng.random() < 0.5), bias=float(rng.choice([0, 2])))
    if RINGS[semiring].zero:
        # a zero that is not 0 occurs only in dense results, outside the compressed levels
        out = None if out is None else tuple(sorted(out, reverse=True))
        if out is None or "compressed" in out or dtype == "int8":
            epilogue = None
    memory = Memory(
        latency=int(rng.choice(LATENCIES)),
        bytes_per_cycle=float(rng.choice([32, 32, 16, 5])),
        stall=float(rng.choice([0, 0, 0.2, 0.5])),
        reorder=bool(rng.random() < 0.3),
        seed=seed % 1000 + 1,
        fill=0xA5,
    )
    text = str(statement)
    panel = PANEL
    if not plain and np.random.default_rng([seed, 4]).random() < PANELS:
        panel = LANES
    case = Case(dtype, text, operands, order, out, epilogue, semiring, memory=memory, panel=panel)
    heavy = np.random.default_rng([seed, 5])
    if not plain and heavy.random() < HEAVY:
        return heavy_case(heavy, case)
    if not plain and statement.result.indices and other.random() < MASKS:
        return _masked(other, case, [sizes[i] for i in statement.result.indices])
    return case


def run_seed(pair: Pair, seed: int, *, rtl: bool = True) -> str:
    """Run a seed's case; return the outcome. An error's message shows the case."""
    case = make_case(seed, pair.dtype)
    try:
        return "right" if check(pair, case, rtl=rtl) else "refused"
    except Exception as error:
        error.add_note(str(case))
        raise


def check(pair: Pair, case: Case, *, rtl: bool = True) -> bool:
    """Compute the case, with its panels and heavy rows (`_check`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "PANEL", case.panel)
        patch.setattr(virtual, "MIN_WEIGHT", case.heavy)
        return _check(pair, case, rtl=rtl)


def _check(pair: Pair, case: Case, *, rtl: bool) -> bool:
    """Compute the case, on the RTL too if ``rtl``; return False if it is refused: no kernels have
    these loops, or a result fiber does not fit in any possible order.

    Raises
    ------
    AssertionError
        If model, RTL and NumPy do not agree.
    """
    arguments = case.arguments()
    try:
        if rtl:
            got = pair.run(case.statement, memory=case.memory, **arguments)
        else:
            got = pair.model.compute(case.statement, **arguments)
    except OneKernelError:
        return False
    except ChipError as error:
        if error.code is ErrorCode.SLOTS and (not rtl or _lacks_slots(pair, case, arguments)):
            return False
        raise
    compare(case, got)
    return True


def compare(case: Case, got: Any) -> None:
    """Assert that a result equals NumPy's: exactly, or within a rounding bound."""
    found, stores, ring = as_array(got), entries_of(got), RINGS[case.semiring]
    wanted = reference(case)
    expected, magnitude = wanted.value, wanted.magnitude
    assert found.shape == expected.shape
    if case.epilogue is not None:
        bias = float(case.epilogue.bias or 0)
        # an entry that is not stored stays 0 unless it has to be visited
        expected, magnitude = expected + bias, magnitude + abs(bias)
        if case.epilogue.relu:
            expected = np.maximum(expected, 0)
        keep = kept_rows(case)
        if keep is not None:
            expected = np.where(keep, expected, zero_of(case))
    if stores is not None and ring.zero:
        np.testing.assert_array_equal(stores, wanted.there)
        expected = np.where(stores, expected, 0)
    if case.exact:
        np.testing.assert_array_equal(found, expected)
        return
    same = found == expected  # infinities
    # an addition, a product and the final rounding of each term, and those of its intermediates
    bound = 2.0**-23 * (wanted.terms + 8) * magnitude + wanted.terms * 2.0**-120
    with np.errstate(invalid="ignore"):
        assert np.all(same | (np.abs(found - expected) <= bound))


def _lacks_slots(pair: Pair, case: Case, arguments: dict[str, Any]) -> bool:
    """Return whether the model also runs out of slots."""
    try:
        pair.model.compute(case.statement, **arguments)
    except ChipError as error:
        return error.code is ErrorCode.SLOTS
    return False


def _masked(rng: np.random.Generator, case: Case, shape: list[int]) -> Case:
    """Return the case with a random mask of all or some of the result's indices."""
    indices = parse(case.statement).result.indices
    complement = bool(rng.random() < 0.5)
    chosen = [n for n in range(len(indices)) if rng.random() < 0.7] or [0]
    share = rng.choice([0, 0.1, 0.5, 0.9, 1])
    known = mask_of_operands(rng, case.operands, shape) if rng.random() < REPEATS else None
    if known is not None:
        chosen = sorted(known[1])
    there = (rng.random([shape[n] for n in chosen]) < share) * 1.0
    rows = not complement and len(chosen) < len(indices)
    if case.epilogue is not None and (not rows or RINGS[case.semiring].zero):
        case = replace(case, epilogue=replace(case.epilogue, bias=None))
        if RINGS[case.semiring].zero:
            case = replace(case, epilogue=None)
    if known is not None:
        name, modes = known
        if modes == tuple(range(len(indices))) and rng.random() < 0.5:
            return replace(case, mask=case.operands[name], complement=complement)
        places = ",".join(indices[n] for n in modes)
        text = f"{case.statement} where {'not ' * complement}{name}[{places}]"
        return replace(case, statement=text)
    if len(chosen) == len(indices) and rng.random() < 0.7:
        return replace(case, mask=random_format(rng, there), complement=complement)
    turned = [int(n) for n in rng.permutation(len(chosen))]
    places = ",".join(indices[chosen[n]] for n in turned)
    return replace(
        case,
        statement=f"{case.statement} where {'not ' * complement}M[{places}]",
        operands={**case.operands, "M": random_format(rng, there.transpose(turned))},
    )


def _without_signs(expression: Expression) -> Expression:
    match expression:
        case Negate(term):
            return _without_signs(term)
        case Binary(op, left, right):
            return Binary(op.replace("-", "+"), _without_signs(left), _without_signs(right))
    return expression


def _random_statement(rng: np.random.Generator) -> Statement:
    """Return products and sums of up to three operands over up to four indices; a product of sums
    has one operand more.
    """
    indices = list(string.ascii_lowercase[8 : 8 + int(rng.integers(1, MAX_INDICES + 1))])
    count = int(rng.integers(1, MAX_OPERANDS + 1))

    def access(n: int, among: list[str]) -> Access:
        rank = int(rng.integers(min(1, len(among)), len(among) + 1))
        if rng.random() < 0.05:
            rank = 0
        some = rng.permutation(among)[: min(rank, 3)]
        return Access(string.ascii_uppercase[n], tuple(str(i) for i in some))

    shape = rng.choice(
        ["product", "sum", "product of a sum", "sum with a product", "product of sums"],
        p=[0.24, 0.24, 0.24, 0.2, 0.08],
    )
    if shape == "product of sums":
        count = int(rng.integers(3, MAX_OPERANDS + 2))
    chosen = [access(n, indices) for n in range(count)]
    if shape in ("sum", "product of a sum") and rng.random() < 0.7:
        # the usual sum is of tensors of one shape
        chosen = [Access(a.name, chosen[-1].indices) for a in chosen]
    expression: Expression = chosen[0]
    if shape == "product of a sum" and count == 3:
        # a sum within a product is of terms of the same indices
        inner = Access(chosen[2].name, _shuffled(rng, chosen[1].indices))
        expression = Binary("*", chosen[0], Binary(_sign(rng), chosen[1], inner))
    elif shape == "product of sums":
        first: Expression = chosen[0]
        if count > 3:
            first = Binary(_sign(rng), first, chosen[3])
        expression = Binary("*", first, Binary(_sign(rng), chosen[1], chosen[2]))
    elif shape == "sum with a product" and count == 3:
        expression = Binary(_sign(rng), chosen[0], Binary("*", chosen[1], chosen[2]))
    else:
        for a in chosen[1:]:
            expression = Binary("*" if shape == "product" else _sign(rng), expression, a)
    if rng.random() < 0.1:
        expression = Negate(expression)
    used = sorted({i for a in accesses(expression) for i in a.indices})
    kept = [str(i) for i in rng.permutation(used) if rng.random() < 0.6]
    return parse(str(Statement(Access("X", tuple(kept)), expression)))


def _sign(rng: np.random.Generator) -> str:
    return str(rng.choice(["+", "-"]))


def _shuffled(rng: np.random.Generator, indices: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(i) for i in rng.permutation(indices))


def _random_sizes(rng: np.random.Generator, statement: Statement) -> dict[str, int]:
    while True:
        sizes = {i: random_size(rng, MAX_SIZE) for i in statement.indices}
        if rng.random() < 0.5:
            # tiny ones run fastest, and have as many edge cases
            sizes = {i: min(n, int(rng.integers(1, 9))) for i, n in sizes.items()}
        if np.prod(list(sizes.values())) <= MAX_ELEMENTS:
            return sizes
