"""Golden function of a cache set: which lines are replaced."""

from collections.abc import Hashable, Iterable, Iterator


def hits(ways: int, lines: Iterable[Hashable]) -> Iterator[bool]:
    """Yield whether each of these lines of a set is found, asked for one after the other.

    A line that is not found replaces the first one, cyclically from the way behind the one that was
    replaced last, that has not been found since it came. If all have been, it replaces the first
    one, and the others count as not found.
    """
    line: list[Hashable | None] = [None] * ways
    used = [False] * ways
    oldest = 0
    for asked in lines:
        found = asked in line
        yield found
        if found:
            used[line.index(asked)] = True
            continue
        order = [(oldest + n) % ways for n in range(ways)]
        if all(used):
            used = [False] * ways
        at = next(way for way in order if not used[way])
        line[at], oldest = asked, (at + 1) % ways
