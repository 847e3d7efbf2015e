"""Random tensor expressions, each determined by its seed, and what NumPy says of them."""

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest import ChipError, Epilogue, Memory, Tensor
from loopnest.notation import Access, Binary, Expression, Negate, Statement, parse
from loopnest.split import OneKernelError
from loopnest_hw.registers import ErrorCode
from tests.rtl.chips import Pair
from tests.rtl.kernels import dense

from .patterns import LEVELS, random_array, random_format, random_size

MOST_OPERANDS = 3
MOST_INDICES = 4
MOST_SIZE = 40
MOST_ELEMENTS = 30_000
"""Elements of the space that a term's indices span: NumPy walks all of them."""

LATENCIES = (1, 4, 9, 30, 100)


@dataclass(frozen=True)
class Case:
    """An expression to compute.

    Attributes
    ----------
    seed : int
    dtype : str
    statement : str
    operands : mapping
        As `loopnest.Chip.compute` takes them.
    formats : mapping
        What each operand is, for the reader.
    order, out, epilogue
        Likewise.
    memory : Memory
        Timing of the RTL's memory.
    exact : bool
        Every sum is of small integers.
    """

    seed: int
    dtype: str
    statement: str
    operands: Mapping[str, Any]
    formats: Mapping[str, str]
    order: tuple[str, ...] | None
    out: tuple[str, ...] | None
    epilogue: Epilogue | None
    memory: Memory
    exact: bool

    def __str__(self) -> str:
        parts = [self.statement]
        parts += [f"{name}: {self.formats[name]} {np.shape(_array(x))}"
                  for name, x in self.operands.items()]  # fmt: skip
        parts += [f"order={self.order}", f"out={self.out}", f"epilogue={self.epilogue}"]
        return "; ".join([*parts, str(self.memory)])


def make_case(seed: int, dtype: str) -> Case:
    """Return the case of this seed for a chip of this number format."""
    rng = np.random.default_rng(seed)
    statement = _random_statement(rng)
    sizes = _random_sizes(rng, statement)
    exact = dtype == "int8" or bool(rng.random() < 0.7)
    operands: dict[str, Any] = {}
    formats: dict[str, str] = {}
    for access in statement.accesses:
        if access.name not in operands:
            shape = tuple(sizes[i] for i in access.indices)
            array = random_array(rng, shape, exact)
            operands[access.name], formats[access.name] = random_format(rng, array, dtype)
    order = None
    if rng.random() < 0.6:
        order = tuple(str(i) for i in rng.permutation(statement.indices))
    out = None
    if rng.random() < 0.6:
        out = tuple(str(level) for level in rng.choice(LEVELS, len(statement.result.indices)))
    epilogue = None
    if rng.random() < 0.15:
        epilogue = Epilogue(relu=bool(rng.random() < 0.5), bias=float(rng.choice([0, 2])))
    memory = Memory(
        latency=int(rng.choice(LATENCIES)),
        bytes_per_cycle=float(rng.choice([32, 32, 16, 5])),
        stall=float(rng.choice([0, 0, 0.2, 0.5])),
        reorder=bool(rng.random() < 0.3),
        seed=seed % 1000 + 1,
        fill=0xA5,
    )
    return Case(seed, dtype, str(statement), operands, formats, order, out, epilogue, memory, exact)


def run_seed(pair: Pair, seed: int) -> str:
    """Run a seed's case on the RTL; return how it ended. Its error tells the case."""
    case = make_case(seed, pair.dtype)
    try:
        return "right" if check(pair, case) else "refused"
    except Exception as error:
        error.add_note(str(case))
        raise


def check(pair: Pair, case: Case, *, rtl: bool = True) -> bool:
    """Compute the case, on the RTL too if ``rtl``; return False where it is refused: no number of
    kernels has these loops, or a result fiber does not fit and no order that fits is possible.

    Raises
    ------
    AssertionError
        If model, RTL and NumPy do not agree.
    """
    arguments: dict[str, Any] = {
        **case.operands, "order": case.order, "out": case.out, "epilogue": case.epilogue
    }  # fmt: skip
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
    expected, magnitude, terms = reference(case)
    found = _array(got)
    assert found.shape == expected.shape
    if case.epilogue is not None:
        bias = float(case.epilogue.bias)
        # what is not stored stays 0 unless it has to be visited
        expected, magnitude = expected + bias, magnitude + abs(bias)
        if case.epilogue.relu:
            expected = np.maximum(expected, 0)
    if case.exact:
        np.testing.assert_array_equal(found, expected)
    else:
        # an addition, a product and the final rounding of each term, parts with theirs
        bound = 2.0**-23 * (terms + 8) * magnitude + terms * 2.0**-120
        assert np.all(np.abs(found - expected) <= bound)
    return True


def _lacks_slots(pair: Pair, case: Case, arguments: dict[str, Any]) -> bool:
    """Return whether the model, too, ends for want of slots."""
    try:
        pair.model.compute(case.statement, **arguments)
    except ChipError as error:
        return error.code is ErrorCode.SLOTS
    return False


def reference(case: Case) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return the result, the sum of its terms' magnitudes, and the terms that it sums at most.

    A term of the statement is summed over its own indices, as docs/expressions.md says.
    """
    statement = parse(case.statement)
    arrays = {name: _stored(x, case.dtype) for name, x in case.operands.items()}
    sizes = {
        i: n
        for access in statement.accesses
        for i, n in zip(access.indices, arrays[access.name].shape, strict=True)
    }
    shape = tuple(sizes[i] for i in statement.result.indices)
    total, magnitude, terms = np.zeros(shape), np.zeros(shape), 0
    for term, sign in _terms(statement.expression, 1):
        own = {i for access in _accesses(term) for i in access.indices}
        space = [*statement.result.indices, *sorted(own - set(statement.result.indices))]
        summed = tuple(range(len(shape), len(space)))
        value, absolute = _evaluate(term, arrays, space)
        whole = np.broadcast_shapes(value.shape, tuple(sizes[i] for i in space))
        total += sign * np.broadcast_to(value, whole).sum(axis=summed)
        magnitude += np.broadcast_to(absolute, whole).sum(axis=summed)
        terms += int(np.prod([sizes[i] for i in space[len(shape) :]]))
    return total, magnitude, terms


def _random_statement(rng: np.random.Generator) -> Statement:
    """Return products and sums of up to three operands over up to four indices."""
    indices = list(string.ascii_lowercase[8 : 8 + int(rng.integers(1, MOST_INDICES + 1))])
    count = int(rng.integers(1, MOST_OPERANDS + 1))

    def access(n: int, among: list[str]) -> Access:
        rank = int(rng.integers(min(1, len(among)), len(among) + 1))
        if rng.random() < 0.05:
            rank = 0
        chosen = rng.permutation(among)[: min(rank, 3)]
        return Access(string.ascii_uppercase[n], tuple(str(i) for i in chosen))

    shape = rng.choice(["product", "sum", "product of a sum", "sum with a product"])
    accesses = [access(n, indices) for n in range(count)]
    if shape in ("sum", "product of a sum") and rng.random() < 0.7:
        # the usual sum is of tensors of one shape
        accesses = [Access(a.name, accesses[-1].indices) for a in accesses]
    expression: Expression = accesses[0]
    if shape == "product of a sum" and count == 3:
        # a sum within a product is of terms of the same indices
        inner = Access(accesses[2].name, _shuffled(rng, accesses[1].indices))
        expression = Binary("*", accesses[0], Binary(_sign(rng), accesses[1], inner))
    elif shape == "sum with a product" and count == 3:
        expression = Binary(_sign(rng), accesses[0], Binary("*", accesses[1], accesses[2]))
    else:
        for a in accesses[1:]:
            expression = Binary("*" if shape == "product" else _sign(rng), expression, a)
    if rng.random() < 0.1:
        expression = Negate(expression)
    used = sorted({i for a in _accesses(expression) for i in a.indices})
    kept = [str(i) for i in rng.permutation(used) if rng.random() < 0.6]
    return parse(str(Statement(Access("X", tuple(kept)), expression)))


def _sign(rng: np.random.Generator) -> str:
    return str(rng.choice(["+", "-"]))


def _shuffled(rng: np.random.Generator, indices: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(i) for i in rng.permutation(indices))


def _random_sizes(rng: np.random.Generator, statement: Statement) -> dict[str, int]:
    while True:
        sizes = {i: random_size(rng, MOST_SIZE) for i in statement.indices}
        if rng.random() < 0.5:
            # tiny ones run quickest, and their edges are as many
            sizes = {i: min(n, int(rng.integers(1, 9))) for i, n in sizes.items()}
        if np.prod(list(sizes.values())) <= MOST_ELEMENTS:
            return sizes


def _terms(expression: Expression, sign: int) -> Iterator[tuple[Expression, int]]:
    match expression:
        case Negate(term):
            yield from _terms(term, -sign)
        case Binary("+" | "-", left, right):
            yield from _terms(left, sign)
            yield from _terms(right, -sign if expression.op == "-" else sign)
        case _:
            yield expression, sign


def _accesses(expression: Expression) -> Iterator[Access]:
    match expression:
        case Access():
            yield expression
        case Negate(term):
            yield from _accesses(term)
        case Binary(_, left, right):
            yield from _accesses(left)
            yield from _accesses(right)


def _evaluate(
    expression: Expression, arrays: Mapping[str, NDArray[np.float64]], space: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return an expression's values over the space of its indices, and their magnitudes."""
    match expression:
        case Access(name, indices):
            order = sorted(range(len(indices)), key=lambda m: space.index(indices[m]))
            array = arrays[name].transpose(order)
            missing = tuple(a for a, i in enumerate(space) if i not in indices)
            array = np.expand_dims(array, missing)
            return array, np.abs(array)
        case Negate(term):
            value, magnitude = _evaluate(term, arrays, space)
            return -value, magnitude
        case Binary(op, left, right):
            (a, of_a), (b, of_b) = (_evaluate(e, arrays, space) for e in (left, right))
            if op == "*":
                return a * b, of_a * of_b
            return (a + b if op == "+" else a - b), of_a + of_b
    raise AssertionError(expression)


def _array(result: Any) -> NDArray[np.float64]:
    if isinstance(result, Tensor):
        return np.asarray(result.to_dense(), np.float64)
    return dense(result)


def _stored(operand: Any, dtype: str) -> NDArray[np.float64]:
    """Return an operand's values as the chip holds them."""
    if not isinstance(operand, Tensor):
        operand = Tensor.from_dense(_array(operand), dtype=dtype)
    return _array(operand)
