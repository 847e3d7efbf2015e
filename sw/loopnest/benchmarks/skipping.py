"""The inner product of a long sparse vector and one with few of its coordinates."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from loopnest_hw.config import LANES
from loopnest_hw.format import LINE_WORDS

from .bounds import AtShorter, Bound, Unbounded
from .cases import Case
from .matrices import SEED, nonzeros

INNER = "s = x[i] * y[i]"
SIZE = 1 << 20
LONG = 10_000
SHORT = 10
MORE_CYCLES = 140
"""Cycles allowed in addition to the lines of the block words."""


def skipping_cases() -> Iterator[Case]:
    """Yield the product in both orders of the operands, and that of the long one and itself.

    One of the short vector's coordinates is the long one's last.
    """
    rng = np.random.default_rng(SEED)
    places = np.sort(rng.choice(SIZE, LONG, replace=False))
    chosen = np.append(rng.choice(places[:-1], SHORT - 1, replace=False), places[-1])
    x = sp.coo_array((nonzeros((LONG,), rng), (places,)), shape=(SIZE,))
    y = sp.coo_array((nonzeros((SHORT,), rng), (np.sort(chosen),)), shape=(SIZE,))
    lines = sum(-(-len(np.unique(v.coords[0] // LANES)) // LINE_WORDS) for v in (x, y))
    bound = AtShorter(lines + MORE_CYCLES)
    yield _case("long * short", x, y, bound)
    yield _case("short * long", y, x, bound)
    yield _case("long * long", x, x, Unbounded())


def _case(name: str, x: sp.coo_array, y: sp.coo_array, bound: Bound) -> Case:
    return Case(
        name=f"skipping, {name}",
        statement=INNER,
        order="i",
        operands={"x": x, "y": y},
        expected=lambda: np.asarray(x.toarray() @ y.toarray()),
        bound=bound,
    )
