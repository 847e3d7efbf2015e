"""The accumulator, for a whole nest: sums terms by key into the values of result fibers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import COORDINATE_BITS, LANES
from loopnest_hw.format import BLOCK_COORDINATE_BITS
from loopnest_hw.registers import ErrorCode

from .arith import Wide, wide_type
from .chains import sum_chains
from .faults import Faults
from .leaf import Terms
from .nest import Indices, Nest, Tokens, Words


@dataclass
class Finished:
    """Result fibers that ended: their positions (``fiber``), and their values by ``number`` and
    key.
    """

    fiber: Words
    number: Indices
    key: Indices
    value: Wide


class Sums:
    """Sums the terms of each key of each result fiber, in order.

    If the kernel uses 2 or 4 copies of a key, the n-th leaf fiber of a result fiber adds to copy n
    mod copies; at a fiber's end, the copies are added in order.

    Leaf tokens are fed in chunks, in the nest's order; each call returns the fibers that end in its
    chunk. An open fiber is carried over: its sum so far is a key's first term in the next chunk.

    Attributes
    ----------
    overflow : bool
        An int8 chip's sum overflowed int32.
    """

    def __init__(self, nest: Nest, faults: Faults) -> None:
        self._nest = nest
        self._faults = faults
        self._unordered = False
        self._key: Indices = np.zeros(0, np.int64)
        self._value: Wide = np.zeros(0, wide_type(nest.config.dtype))
        self._fiber: Words = np.zeros(0, np.uint32)
        self._leaf_fibers = 0  # of the open result fiber, so far
        self.overflow = False

    def feed(self, tokens: Tokens, terms: Terms) -> Finished:
        """Take some leaf tokens with their terms; return the fibers that are complete."""
        ends, number, turn = result_fibers(self._nest, tokens, self._leaf_fibers)
        self._leaf_fibers = 0 if ends[-1] else int(turn[-1]) + int(tokens.present[-1] != 0)
        key = self._spread(terms, turn)
        fiber = number[terms.token]
        value = terms.value
        # the numbers of chains leave no gaps
        keys = int(max(key.max(initial=0), self._key.max(initial=0))) + 1
        if not self._nest.accumulate:
            keys = 1 << COORDINATE_BITS
        chain = np.repeat(fiber * keys, terms.count) + key
        if len(self._key):
            chain = np.concatenate([self._key, chain])
            value = np.concatenate([self._value, value])
        if self._nest.accumulate:
            chain, value, overflow = self._sums(value, chain)
            chain = (chain // keys << COORDINATE_BITS) + chain % keys
            self.overflow |= overflow
        elif self._unordered or (chain[1:] <= chain[:-1]).any():
            self._faults.add(ErrorCode.KEYS, 0)
            self._unordered = True
            # the chip stops here: no further fiber is finished
            self._key, self._value = self._key[:0], self._value[:0]
            self._fiber = tokens.fiber[:0]
            nothing = np.zeros(0, np.int64)
            return Finished(self._fiber, nothing, nothing, self._value)
        fibers = int(np.count_nonzero(ends))
        closed = int(np.searchsorted(chain, fibers << COORDINATE_BITS))
        self._key, self._value = _keys(chain[closed:]), value[closed:]
        self._fiber = tokens.fiber[-1:] if not ends[-1] else tokens.fiber[:0]
        self._check_slots(chain)
        chain, value = self._merged(chain[:closed], value[:closed])
        return Finished(tokens.fiber[ends], chain >> COORDINATE_BITS, _keys(chain), value)

    def finish(self) -> Finished:
        """Return the fiber that is still open at the nest's end, if there is one."""
        key, value = self._merged(self._key, self._value)
        return Finished(self._fiber, np.zeros(len(key), np.int64), key, value)

    def _check_slots(self, chain: Indices) -> None:
        """Record fibers that need a further pass but cannot take one.

        For a fiber that is still open, this detects early what its end would show.
        """
        config = self._nest.config
        if not self._nest.accumulate or self._nest.replayable:
            return
        blocks = np.unique(chain // LANES)
        fiber = blocks >> BLOCK_COORDINATE_BITS
        if len(fiber) and np.unique(fiber, return_counts=True)[1].max() > config.slots:
            self._faults.add(ErrorCode.SLOTS, 0)

    def _spread(self, terms: Terms, turn: Indices) -> Words:
        """Return the keys with the copy's number between block and lane; a key's top bits are
        dropped.
        """
        copies = self._nest.copies
        if not copies:
            return terms.key
        copy = np.repeat(turn[terms.token] % (1 << copies), terms.count).astype(np.uint32)
        block, lane = terms.key // LANES, terms.key % LANES
        block = (block << np.uint32(copies) | copy) % (1 << BLOCK_COORDINATE_BITS)
        return block * LANES | lane

    def _sums(self, value: Wide, chain: Indices) -> tuple[Indices, Wide, bool]:
        return sum_chains(value, chain, self._nest.config.dtype, self._nest.reduction)

    def _merged(self, chain: Indices, value: Wide) -> tuple[Indices, Wide]:
        """Add the copies of each key, in their order."""
        if not self._nest.copies:
            return chain, value
        copies = self._nest.copies
        number, block = np.divmod(chain // LANES >> copies, 1 << BLOCK_COORDINATE_BITS - copies)
        chain = (number << COORDINATE_BITS) + block * LANES + chain % LANES
        chain, value, overflow = self._sums(value, chain)
        self.overflow |= overflow
        return chain, value


def result_fibers(
    nest: Nest, tokens: Tokens, leaf_fibers: int = 0
) -> tuple[NDArray[np.bool_], Indices, Indices]:
    """Return where result fibers end and, for each leaf token, the number of its result fiber and
    the number of leaf fibers before it in that fiber; the first result fiber has had
    ``leaf_fibers`` before these tokens.
    """
    # the leaf's own fiber ends with each of its tokens
    ends = tokens.stop.astype(np.int64) + 1 >= nest.drain_stop
    number: Indices = np.cumsum(ends) - ends
    fiber = (tokens.present != 0).astype(np.int64)
    before = np.cumsum(fiber) - fiber
    # a result fiber begins after the last token of the previous one
    begins = np.concatenate([[-leaf_fibers], (before + fiber)[ends]])
    return ends, number, before - begins[number]


def _keys(chain: Indices) -> Indices:
    return chain & ((1 << COORDINATE_BITS) - 1)
