"""Kinds of levels, as a user writes them."""

from collections.abc import Sequence

from ..arguments import sequence
from .pack import COMPRESSED, DENSE

MAX_ORDER = 4

Levels = str | Sequence[str]


def parse_levels(levels: Levels, order: int) -> tuple[str, ...]:
    """Return level kinds as a tuple; ``"dense,compressed"`` and sequences are taken.

    Raises
    ------
    ValueError
        For an unknown kind, or if there are not ``order`` levels.
    TypeError
        For anything but a string or a sequence.
    """
    if isinstance(levels, str):
        kinds = tuple(part.strip() for part in levels.split(",") if part.strip())
    else:
        kinds = sequence("levels", levels, "a string or a sequence of dense and compressed")
    for kind in kinds:
        if kind not in (DENSE, COMPRESSED):
            raise ValueError(f"level {kind!r} in {levels!r}: expected dense or compressed")
    if len(kinds) != order:
        raise ValueError(f"levels {levels!r}: expected {order}, one for each index")
    return kinds


def sparse_levels(order: int) -> tuple[str, ...]:
    """Return the default levels of a sparse tensor: dense outermost, compressed below."""
    return (DENSE,) * (order > 1) + (COMPRESSED,) * (order - (order > 1))
