"""Minimises a failing case, and writes it as a test.

The search is greedy: it continues with the first simpler case that fails in the same way, until
there is none.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from loopnest.expression.notation import (
    Access,
    Binary,
    Expression,
    Negate,
    Place,
    Statement,
    accesses,
)
from loopnest.expression.parser import parse
from loopnest.expression.sizes import view_sizes
from tests.rtl.chips import QUICK

from .cases import Case, Given

MAX_RUNS = 2000

Failure = tuple[str, str, int]
"""The error's type, and its file and line."""


def failure_of(run: Callable[[Case], object], case: Case) -> Failure | None:
    """Return how a case fails, or None if it does not."""
    try:
        run(case)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return type(error).__name__, last.filename, last.lineno or 0
    return None


def shrink(case: Case, run: Callable[[Case], object], *, most: int = MAX_RUNS) -> Case:
    """Return a minimal case that fails in the same way; ``run`` raises if a case fails, and is
    called at most ``most`` times.
    """
    failure = failure_of(run, case)
    assert failure is not None, "the case does not fail"
    left = most
    smaller: Case | None = case
    while smaller is not None and left > 0:
        case, smaller = smaller, None
        for candidate in _simpler(case):
            left -= 1
            if failure_of(run, candidate) == failure:
                smaller = candidate
                break
            if not left:
                break
    return case


def paste(case: Case, chip: str) -> str:
    """Return the case as a test."""
    return "\n".join(
        [
            "import numpy as np",
            "",
            "from loopnest import Epilogue, Memory",
            "from tests.fuzz.cases import Case, Given",
            "from tests.fuzz.expressions import check",
            "from tests.rtl.chips import Pair, on",
            "",
            "",
            f'@on("{chip}")',
            "def test_found_by_the_fuzzer(pair: Pair) -> None:",
            f"    case = {case!r}",
            "    assert check(pair, case)",
        ]
    )


def _simpler(case: Case) -> Iterator[Case]:
    """Yield cases that are simpler in one respect, much simpler ones first."""
    for change in (_options, _expressions, _indices, _sizes, _formats, _values):
        for candidate in change(case):
            try:
                statement = parse(candidate.statement)
                shapes = [candidate.operands[a.tensor].array.shape for a in statement.accesses]
                view_sizes(statement, shapes)
            except (ValueError, KeyError):
                continue  # it is not a valid statement, or its operands do not fit
            yield candidate


def _options(case: Case) -> Iterator[Case]:
    plain: dict[str, object] = {
        "memory": QUICK,
        "epilogue": None,
        "semiring": "plus_times",
        "order": None,
        "out": None,
    }
    for name, value in plain.items():
        if getattr(case, name) != value:
            yield replace(case, **{name: value})  # type: ignore[arg-type]
    if case.mask is not None:
        yield replace(case, mask=None, complement=False)
    if case.complement:
        yield replace(case, complement=False)


def _expressions(case: Case) -> Iterator[Case]:
    """Remove operands, signs, the mask, and indices of the result."""
    statement = parse(case.statement)
    if statement.mask is not None:
        yield _with(case, replace(statement, mask=None))
    for expression in _parts(statement.expression):
        yield _with(case, replace(statement, expression=expression))
    if case.mask is None:
        for index in statement.result.indices:
            yield _with(case, _without_result(statement, index))


def _parts(expression: Expression) -> Iterator[Expression]:
    """Yield expressions with a node less."""
    match expression:
        case Negate(term):
            yield term
            for part in _parts(term):
                yield Negate(part)
        case Binary(op, left, right):
            yield left
            yield right
            if op == "-":
                yield Binary("+", left, right)
            for part in _parts(left):
                yield Binary(op, part, right)
            for part in _parts(right):
                yield Binary(op, left, part)


def _with(case: Case, statement: Statement) -> Case:
    """Return the case with another statement, and the options that fit it."""
    used = {access.tensor for access in statement.accesses}
    known = {i for a in accesses(statement.expression) for i in a.indices}
    for index in statement.result.indices:
        if index not in known:
            statement = _without_result(statement, index)
    before = parse(case.statement).result.indices
    kept = [n for n, i in enumerate(before) if i in statement.result.indices]
    mask = case.mask
    for n in reversed(range(len(before))):
        if mask is not None and n not in kept:
            mask = _first(mask, n)
    return replace(
        case,
        statement=str(statement),
        operands={name: given for name, given in case.operands.items() if name in used},
        order=None if case.order is None else tuple(i for i in case.order if i in known),
        out=None if case.out is None else tuple(case.out[n] for n in kept),
        mask=mask,
    )


def _without_result(statement: Statement, index: str) -> Statement:
    result, mask = statement.result, statement.mask
    left = tuple(i for i in result.indices if i != index)
    if mask is not None and index in mask.access.indices:
        mask = None
    return replace(statement, result=replace(result, indices=left), mask=mask)


def _indices(case: Case) -> Iterator[Case]:
    """Remove an index, keeping its first coordinate; simplify a view."""
    statement = parse(case.statement)
    for index in statement.indices:
        operands = dict(case.operands)

        def gone(access: Access, index: str = index, operands: dict[str, Given] = operands) -> str:
            places = []
            for place in _places(access):
                if place.terms == ((index, 1),):
                    continue
                terms = tuple(t for t in place.terms if t[0] != index)
                places.append(Place(terms, place.offset))
            return _access(access.tensor, places)

        for access in statement.accesses:
            for mode in reversed(range(len(_places(access)))):
                if _places(access)[mode].terms == ((index, 1),):
                    operands[access.tensor] = _first(operands[access.tensor], mode)
        mask = statement.mask
        text = _statement(_without_result(replace(statement, mask=None), index), gone)
        if mask is not None and mask.access.indices != (index,):
            text += f" where {'not ' * mask.complement}{gone(mask.access)}"
        try:
            yield replace(_with(case, parse(text)), operands=operands)
        except ValueError:
            continue
    for number, access in enumerate(accesses(statement.expression)):
        for mode, place in enumerate(access.places or ()):
            simpler = [Place(place.terms, 0)] if place.offset else []
            simpler += [Place((term,), 0) for term in place.terms if len(place.terms) > 1]
            simpler += [Place(((i, 1),), 0) for i, f in place.terms if f > 1]
            for other in simpler:
                yield replace(case, statement=_replaced(statement, number, mode, other))


def _sizes(case: Case) -> Iterator[Case]:
    """Reduce the sizes of indices; crop operands to what their views reach."""
    statement = parse(case.statement)
    shapes = [case.operands[a.tensor].array.shape for a in statement.accesses]
    sizes = view_sizes(statement, shapes)
    reached = _cut(case, statement, sizes, "", 0)
    if reached is not None and any(
        given.array.shape != case.operands[name].array.shape
        for name, given in reached.operands.items()
    ):
        yield reached
    for index, size in sizes.items():
        for smaller in sorted({1, size // 2, size - 1} - {0, size}):
            for skipped in (0, size - smaller):
                cut = _cut(case, statement, {**sizes, index: smaller}, index, skipped)
                if cut is not None:
                    yield cut


def _cut(
    case: Case, statement: Statement, sizes: Mapping[str, int], index: str, skipped: int
) -> Case | None:
    """Return the case with a part of an index, without the coordinates before it; None if a
    tensor's views would need different parts.
    """
    parts: dict[tuple[str, int], list[slice]] = {}
    for access in statement.accesses:
        for mode, place in enumerate(_places(access)):
            begin = dict(place.terms).get(index, 0) * skipped
            reach = place.offset + sum(f * (sizes[i] - 1) for i, f in place.terms)
            parts.setdefault((access.tensor, mode), []).append(slice(begin, begin + reach + 1))
    operands = dict(case.operands)
    for (tensor, mode), some in parts.items():
        if len({part.start for part in some}) > 1:
            return None
        part = slice(some[0].start, max(part.stop for part in some))
        operands[tensor] = _sliced(operands[tensor], mode, part)
    mask = case.mask
    if mask is not None and index in statement.result.indices:
        kept = slice(skipped, skipped + sizes[index])
        mask = _sliced(mask, statement.result.indices.index(index), kept)
    return replace(case, operands=operands, mask=mask)


def _formats(case: Case) -> Iterator[Case]:
    """Pass operands in simpler types."""
    for put, given in _givens(case):
        others = [Given(given.array), Given(given.array, "coo")] if given.array.ndim else []
        if given.kind == "array":
            others = []
        elif given.kind != "tensor":
            others = others[:1] + ([] if given.kind == "coo" else others[1:])
        elif given.wide:
            others.append(replace(given, wide=False))
        for other in others:
            yield put(other)
        rank = given.array.ndim
        if given.kind == "tensor" and given.modes != tuple(range(rank)):
            yield put(replace(given, modes=tuple(range(rank))))


def _values(case: Case) -> Iterator[Case]:
    """Reduce the number of nonzeros, and simplify them."""
    for put, given in _givens(case):
        at = np.flatnonzero(given.array)
        if np.any(np.signbit(given.array) & (given.array == 0)):
            yield put(replace(given, array=given.array + 0.0))
        size = -(-len(at) // 2)
        while size:
            for begin in range(0, len(at), size):
                yield put(replace(given, array=_set(given.array, at[begin : begin + size], 0)))
            size //= 2
        other = at[given.array.ravel()[at] != 1]
        if len(other):
            yield put(replace(given, array=_set(given.array, other, 1)))
        for number in other if len(other) <= 8 else ():
            yield put(replace(given, array=_set(given.array, np.array([number]), 1)))


def _givens(case: Case) -> Iterator[tuple[Callable[[Given], Case], Given]]:
    """Yield each operand, and a function that replaces it."""
    for name, given in case.operands.items():

        def put(other: Given, name: str = name) -> Case:
            return replace(case, operands={**case.operands, name: other})

        yield put, given
    if case.mask is not None:
        yield lambda other: replace(case, mask=other), case.mask


def _set(array: NDArray, at: NDArray[np.int64], value: float) -> NDArray:
    found = array.copy().ravel()
    found[at] = value
    return found.reshape(array.shape)


def _sliced(given: Given, mode: int, kept: slice) -> Given:
    at = tuple(kept if m == mode else slice(None) for m in range(given.array.ndim))
    return replace(given, array=given.array[at])


def _first(given: Given, mode: int) -> Given:
    """Return the operand at the first coordinate of a mode."""
    array = given.array.take(0, axis=mode)
    if given.kind == "tensor" and array.ndim:
        levels = tuple(k for k, m in zip(given.levels, given.modes, strict=True) if m != mode)
        modes = tuple(m - (m > mode) for m in given.modes if m != mode)
        return replace(given, array=array, levels=levels, modes=modes)
    return Given(array, "array" if given.kind in ("array", "tensor") or not array.ndim else "coo")


def _places(access: Access) -> tuple[Place, ...]:
    return access.places or tuple(Place(((i, 1),), 0) for i in access.indices)


def _access(tensor: str, places: list[Place]) -> str:
    written = [
        "+".join([*(i if f == 1 else f"{f}*{i}" for i, f in p.terms),
                  *([str(p.offset)] if p.offset or not p.terms else [])])
        for p in places
    ]  # fmt: skip
    return f"{tensor}[{','.join(written)}]" if written else tensor


def _statement(statement: Statement, write: Callable[[Access], str]) -> str:
    def walk(expression: Expression) -> str:
        match expression:
            case Access():
                return write(expression)
            case Negate(term):
                return f"-{walk(term)}"
            case Binary(op, left, right):
                return f"({walk(left)} {op} {walk(right)})"
        raise AssertionError(expression)

    return f"{statement.result} = {walk(statement.expression)}"


def _replaced(statement: Statement, number: int, mode: int, place: Place) -> str:
    """Return the statement with another place in one access."""
    turn = iter(range(1 << 16))

    def write(access: Access) -> str:
        places = list(_places(access))
        if next(turn) == number:
            places[mode] = place
        return _access(access.tensor, places)

    return _statement(statement, write) + str(statement.mask or "")
