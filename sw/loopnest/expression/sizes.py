"""The sizes of a statement's indices, given the shapes of its tensors."""

from collections.abc import Mapping, Sequence

from .notation import Access, Place, Statement, moved_modes


def with_parts(
    statement: Statement, shapes: Sequence[tuple[int, ...]], given: Mapping[str, int]
) -> Statement:
    """Return the statement with a view for each access that shows only the first coordinates of a
    mode: the size of its index is ``given``, and less.

    Parameters
    ----------
    shapes : sequence of tuple of int
        Of the tensors, in the order of the accesses.
    """
    parts = {
        access
        for access, shape in zip(statement.accesses, shapes, strict=True)
        if access.places is None
        and any(given.get(i, size) < size for i, size in zip(access.indices, shape, strict=False))
    }

    def viewed(access: Access) -> Access:
        if access not in parts:
            return access
        places = tuple(Place(((i, 1),), 0) for i in access.indices)
        return Access(f"{access.name}[{','.join(access.indices)}]", access.indices, places)

    return statement.with_accesses(viewed)


def view_sizes(
    statement: Statement,
    shapes: Sequence[tuple[int, ...]],
    given: Mapping[str, int] | None = None,
    kept: Mapping[str, tuple[int, int]] | None = None,
) -> dict[str, int]:
    """Return the sizes of the indices, given the tensors' shapes in the order of the accesses, and
    perhaps some of the sizes: an index that never appears alone ranges over all coordinates that
    are within its tensors' bounds.

    Parameters
    ----------
    kept : mapping, optional
        The least and the largest coordinate of indices that a mask keeps; elsewhere a view may be
        out of bounds. Nothing is kept where the largest one is less.

    Raises
    ------
    ValueError
        If a tensor's order differs from its number of indices, if it is too small, or if a size
        cannot be determined.
    """
    sizes: dict[str, int] = dict(given or {})
    compound: list[tuple[Access, Place, int]] = []
    moved = moved_modes(statement.accesses)
    for access, shape in zip(statement.accesses, shapes, strict=True):
        places = access.places or tuple(Place(((i, 1),), 0) for i in access.indices)
        if len(places) != len(shape):
            raise ValueError(
                f"{access}: {access.tensor} has shape {shape}: "
                f"expected {len(places)} dimension{'s' * (len(places) != 1)}"
            )
        for mode, (place, size) in enumerate(zip(places, shape, strict=True)):
            if (
                place.plain is None
                or (access.tensor, mode, place.plain) in moved
                or (access.places is not None and place.plain in (given or {}))
            ):
                compound.append((access, place, size))
            elif sizes.setdefault(place.plain, size) != size and access.places is not None:
                raise ValueError(
                    f"index {place.plain!r} has size {sizes[place.plain]} and {size} in {access}"
                )
    while True:
        limit: dict[str, int] = {}
        for _, place, size in compound:
            unknown = [(i, factor) for i, factor in place.terms if i not in sizes]
            if len(unknown) != 1:
                continue
            ((index, factor),) = unknown
            last = size - 1 - place.offset - _reach(place, sizes)
            limit[index] = min(limit.get(index, 1 << 62), max(0, last // factor + 1))
        if not limit:
            break
        sizes |= limit
    for access, place, _ in compound:
        for index, _ in place.terms:
            if index not in sizes:
                raise ValueError(
                    f"{access}: the size of index {index!r} cannot be determined: expected it "
                    f"alone in another operand"
                )
    within = {i: (0, size - 1) for i, size in sizes.items()} | dict(kept or {})
    for access, place, size in compound:
        least, most = place_range(place, within)
        if any(within[i][0] > within[i][1] for i, _ in place.terms):
            continue
        if least >= 0 and most >= size:
            raise ValueError(f"{access}: {access.tensor} has {size} there: expected {most + 1}")
        if least < 0:
            raise ValueError(
                f"{access}: coordinate {least} of {access.tensor}: expected 0 or more, or a mask "
                f"that is a vector and keeps only such coordinates"
            )
    return sizes


def place_range(place: Place, ranges: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """Return the least and the largest coordinate of a place, given those of its indices."""
    least = most = place.offset
    for index, factor in place.terms:
        least += factor * ranges[index][0]
        most += factor * ranges[index][1]
    return least, most


def _reach(place: Place, sizes: Mapping[str, int]) -> int:
    """Return the largest sum of the indices whose sizes are known."""
    return sum(f * (sizes[i] - 1) for i, f in place.terms if i in sizes)
