"""The accumulator of the whole nest: terms with keys become the result fibers' values."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import COORDINATE_BITS

from .arith import Wide, sum_chains, wide_type
from .leaf import Terms
from .nest import Indices, Nest, Tokens, Words

DIGIT_BITS = 16
"""Keys are sorted by digits of this size: the widest that NumPy sorts in linear time."""


@dataclass
class Finished:
    """Result fibers that ended: ``fiber`` of each, and their values by ``number`` and key."""

    fiber: Words
    number: Indices
    key: Indices
    value: Wide


class Sums:
    """Sums the terms of each key of each result fiber, in order.

    Chunks of leaf tokens go in, in the nest's order; the fibers that end with them come out. The
    one that is open is carried over: its sum so far is a key's first term in the next chunk.

    Attributes
    ----------
    overflow : bool
        An int8 chip's sum left int32.
    """

    def __init__(self, nest: Nest) -> None:
        self._nest = nest
        self._key: Indices = np.zeros(0, np.int64)
        self._value: Wide = np.zeros(0, wide_type(nest.config.dtype))
        self._fiber: Words = np.zeros(0, np.uint32)
        self.overflow = False

    def feed(self, tokens: Tokens, terms: Terms) -> Finished:
        """Take some leaf tokens with their terms; return the fibers that are complete."""
        # the leaf's own fiber ends with each of its tokens
        ends = tokens.stop.astype(np.int64) + 1 >= self._nest.drain_stop
        number: Indices = np.cumsum(ends) - ends
        chain = number[terms.token] << COORDINATE_BITS | terms.key
        chain = np.concatenate([self._key, chain])
        value = np.concatenate([self._value, terms.value])
        if self._nest.accumulate:
            order = _stable_order(chain)
            if order is not None:
                chain, value = chain[order], value[order]
            chain, value, overflow = sum_chains(value, chain, self._nest.config.dtype)
            self.overflow |= overflow
        elif (chain[1:] <= chain[:-1]).any():
            raise ValueError("accumulate=0: expected every key of a result fiber once, ascending")
        fibers = int(np.count_nonzero(ends))
        closed = int(np.searchsorted(chain, fibers << COORDINATE_BITS))
        self._key, self._value = _keys(chain[closed:]), value[closed:]
        self._fiber = tokens.fiber[-1:] if not ends[-1] else tokens.fiber[:0]
        chain = chain[:closed]
        return Finished(tokens.fiber[ends], chain >> COORDINATE_BITS, _keys(chain), value[:closed])

    def finish(self) -> Finished:
        """Return the fiber that is still open where the nest ends, if one is."""
        return Finished(self._fiber, np.zeros(len(self._key), np.int64), self._key, self._value)


def _keys(chain: Indices) -> Indices:
    return chain & ((1 << COORDINATE_BITS) - 1)


def _stable_order(chain: Indices) -> NDArray[np.int64] | None:
    """Return the stable order of non-negative numbers, or None where they ascend already."""
    if not (chain[1:] < chain[:-1]).any():
        return None
    order = np.argsort(chain.astype(np.uint16), kind="stable")
    for shift in range(DIGIT_BITS, int(chain.max()).bit_length(), DIGIT_BITS):
        digit = (chain >> shift).astype(np.uint16)
        order = order[np.argsort(digit[order], kind="stable")]
    return order
