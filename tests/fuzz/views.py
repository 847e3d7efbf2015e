"""Random views: steps, offsets, windows, diagonals, and two views of one tensor."""

from collections.abc import Iterator, Mapping

import numpy as np

from loopnest.expression.notation import (
    Access,
    Binary,
    Expression,
    Negate,
    Place,
    Statement,
    accesses,
    moved_modes,
)
from loopnest.expression.parser import parse
from loopnest.expression.sizes import view_sizes

MAX_ENTRIES = 40_000
TRIES = 4


def random_views(
    rng: np.random.Generator, statement: Statement, sizes: Mapping[str, int]
) -> tuple[Statement, dict[str, tuple[int, ...]]] | None:
    """Return the statement with views of some of its operands, and the shape of each tensor.

    None if there is none: the shapes have to determine every index's size.
    """
    if not all(sizes[i] for i in statement.indices):
        return None
    for _ in range(TRIES):
        own = list(accesses(statement.expression))
        changed = [(a.name, _view(rng, a, statement.indices)) for a in own]
        some = [n for n, a in enumerate(own) if a.indices]
        if len(some) > 1 and rng.random() < 0.25:
            first, second = (int(n) for n in rng.choice(some, 2, replace=False))
            changed[second] = own[first].name, _beside(rng, changed[first][1])
        text = f"{statement.result} = {_written(statement.expression, iter(changed))}"
        try:
            found = parse(text)
        except ValueError:  # an index of the result no longer occurs on the right
            continue
        if all(access.places is None for access in found.accesses):
            continue
        shapes = _shapes(rng, found, sizes)
        if shapes is None or any(np.prod(s) > MAX_ENTRIES for s in shapes.values()):
            continue
        if _have(found, shapes, sizes):
            return found, shapes
    return None


def _have(
    statement: Statement, shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int]
) -> bool:
    """Return whether tensors of these shapes give the indices these sizes: several views of one
    tensor may need different shapes.
    """
    try:
        found = view_sizes(statement, [shapes[a.tensor] for a in statement.accesses])
    except ValueError:
        return False
    moved = moved_modes(statement.accesses)
    return all(found[i] == sizes[i] for i in found) and all(
        size == sizes[index] or (access.tensor, mode, index) in moved
        for access in statement.accesses
        if access.places is None
        for mode, (index, size) in enumerate(
            zip(access.indices, shapes[access.tensor], strict=True)
        )
    )


def viewed_modes(statement: Statement, tensor: str) -> set[int]:
    """Return the modes of a tensor that some view does not access by an index of their own."""
    found = {mode for name, mode, _ in moved_modes(statement.accesses) if name == tensor}
    for access in statement.accesses:
        if access.tensor == tensor and access.places is not None:
            walked = [i for place in access.places for i, _ in place.terms]
            for mode, place in enumerate(access.places):
                if place.plain is None or walked.count(place.plain) > 1:
                    found.add(mode)
    return found


def _view(rng: np.random.Generator, access: Access, indices: tuple[str, ...]) -> list[Place]:
    """Return places of an access: its own indices, or something else in one mode."""
    places = [Place(((i, 1),), 0) for i in access.indices]
    if not places or rng.random() < 0.35:
        return places
    mode = int(rng.integers(len(places)))
    index = access.indices[mode]
    kind = rng.choice(["step", "window", "diagonal"])
    offset = int(rng.choice([0, 0, 1, 3]))
    if kind == "diagonal" and len(places) < 3:
        places.insert(int(rng.integers(len(places) + 1)), Place(((index, 1),), 0))
    elif kind == "window" and len(indices) > 1:
        other = str(rng.choice([i for i in indices if i != index]))
        terms = ((index, int(rng.integers(1, 3))), (other, int(rng.integers(1, 3))))
        places[mode] = Place(terms, offset)
    else:
        places[mode] = Place(((index, int(rng.integers(1, 4))),), offset)
    return places


def _beside(rng: np.random.Generator, places: list[Place]) -> list[Place]:
    """Return the same view, shifted by up to two coordinates."""
    return [Place(p.terms, p.offset + int(rng.integers(0, 3))) for p in places]


def _shapes(
    rng: np.random.Generator, statement: Statement, sizes: Mapping[str, int]
) -> dict[str, tuple[int, ...]] | None:
    """Return the tensors' shapes, or None if they would not determine the indices' sizes."""
    walks = {}
    for access in accesses(statement.expression):
        places = access.places or tuple(Place(((i, 1),), 0) for i in access.indices)
        for mode, place in enumerate(places):
            walks.setdefault((access.tensor, mode), []).append(place)
    moved = {at: any(p.plain is None for p in places) for at, places in walks.items()}
    told = {p.plain for at, places in walks.items() if not moved[at] for p in places}
    compound = [p for at, places in walks.items() if moved[at] for p in places]
    alone = set(told)
    while True:
        new = [{i for i, _ in p.terms} - told for p in compound]
        found = {i for some in new if len(some) == 1 for i in some}
        if not found:
            break
        told |= found
    if any(i not in told for p in compound for i, _ in p.terms):
        return None
    shapes: dict[str, list[int]] = {a.tensor: [] for a in statement.accesses}
    for (tensor, _), places in sorted(walks.items()):
        size = max(p.offset + sum(f * (sizes[i] - 1) for i, f in p.terms) + 1 for p in places)
        if all(i in alone for p in places for i, _ in p.terms) and any(
            p.plain is None for p in places
        ):
            size += int(rng.choice([0, 0, 1, 5]))
        shapes[tensor].append(size)
    return {tensor: tuple(shape) for tensor, shape in shapes.items()}


def _written(expression: Expression, changed: Iterator[tuple[str, list[Place]]]) -> str:
    """Return an expression with the next tensor and places at each access."""
    match expression:
        case Access():
            tensor, places = next(changed)
            return f"{tensor}[{','.join(map(_place, places))}]" if places else tensor
        case Negate(term):
            return f"-{_written(term, changed)}"
        case Binary(op, left, right):
            return f"({_written(left, changed)} {op} {_written(right, changed)})"
    raise AssertionError(expression)


def _place(place: Place) -> str:
    return "+".join([*(f"{f}*{i}" for i, f in place.terms), str(place.offset)])
