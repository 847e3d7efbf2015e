"""Reads, joins and expands the fibers of a row, for many tokens at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import COORDINATE_BITS, LANES
from loopnest_hw.descriptor import CellMode, ResultMode
from loopnest_hw.format import (
    BLOCK_COORDINATE_BITS,
    BLOCK_MASK_BITS,
    OPEN_STRIDE,
    PACKED_STRIDE,
    WORD_BYTES,
)
from loopnest_hw.registers import ErrorCode

from ..image import Image
from .faults import Faults
from .nest import Indices, Row, Tokens, Words
from .watch import Watch

CHUNK_BLOCKS = 1 << 17
"""Block words processed at once, which bounds the model's memory."""

READ_AHEAD = 1 << 12
"""Upper bound of the block words that a stream reads ahead: all lines of a large pool."""

FORERUNNERS = 64
"""Upper bound of the fibers that a stream has in flight when a fault is found."""

ADDRESS_MASK = (1 << 32) - 1
KEY_MASK = np.uint32((1 << COORDINATE_BITS) - 1)
FULL_MASK = np.uint16((1 << LANES) - 1)

Masks = NDArray[np.uint16]


@dataclass
class Fibers:
    """The fibers of one join input, one for each token: their blocks' numbers and their child."""

    first: Indices
    count: Indices
    child: Words


@dataclass
class Blocks:
    """Joined blocks with lanes, in order.

    ``token`` is the number of each block's token. ``mask`` and ``rank`` are each operand's own; an
    operand without a join input has the mask of all lanes if it is present.
    """

    token: Indices
    coordinate: Words
    lanes: Masks
    mask: list[Masks]
    rank: list[Words]
    child: list[Words]


@dataclass
class Lanes:
    """The lanes of joined blocks, in order; ``count`` is the number of each block's lanes."""

    count: NDArray[np.uint8]
    coordinate: Words
    present: list[NDArray[np.bool_]]
    position: list[Words]

    @property
    def block(self) -> Indices:
        """The block of each lane."""
        return np.repeat(np.arange(len(self.count)), self.count)


def joined_chunks(
    row: Row, tokens: Tokens, image: Image, watch: Watch, faults: Faults
) -> Iterator[tuple[Tokens, Blocks]]:
    """Join the fibers of all tokens; yield groups of tokens with all of their blocks."""
    fibers = {
        o: _open(row, o, tokens, image, watch, faults)
        for o, cell in enumerate(row.cells)
        if cell.joins
    }
    blocks_before = np.zeros(len(tokens) + 1, np.int64)
    for fiber in fibers.values():
        blocks_before[1:] += np.cumsum(fiber.count)
    begin = 0
    while begin < len(tokens):
        limit = blocks_before[begin] + CHUNK_BLOCKS
        end = int(np.searchsorted(blocks_before, limit, side="right")) - 1
        end = max(end, begin + 1)
        some = tokens.part(begin, end)
        parts = {o: _part(fiber, begin, end) for o, fiber in fibers.items()}
        yield some, _join(row, some, parts, image, watch, faults)
        begin = end


def _part(fibers: Fibers, begin: int, end: int) -> Fibers:
    return Fibers(fibers.first[begin:end], fibers.count[begin:end], fibers.child[begin:end])


def _open(row: Row, o: int, tokens: Tokens, image: Image, watch: Watch, faults: Faults) -> Fibers:
    """Find operand o's fiber of each token; if the operand is absent, the fiber is empty."""
    cell = row.cells[o]
    n = len(tokens)
    present = (tokens.present >> o & 1).astype(np.bool_)
    first, child = np.zeros(n, np.int64), np.zeros(n, np.uint32)
    if not cell.scans:
        count = present * np.int64(-(-row.size // LANES))
        return Fibers(first, count, child)
    count = np.zeros(n, np.int64)
    stride = WORD_BYTES * (OPEN_STRIDE if cell.open else PACKED_STRIDE)
    entries = cell.table + tokens.position[o][present].astype(np.int64) * stride
    watch.entries(row.number, o, entries & ADDRESS_MASK)

    def word(i: int) -> Words:
        return image.gather(entries + i * WORD_BYTES & ADDRESS_MASK, np.uint32)

    first[present] = word(0)
    child[present] = word(1)
    length = word(2).astype(np.int64) - first[present]
    if (length < 0).any():
        faults.add(ErrorCode.TENSOR, row.number)
    # a fiber longer than the index allows either does not ascend or exceeds it, which this many
    # words show
    most = -(-row.size // LANES) + 1
    count[present] = np.clip(length, 0, most)
    beyond = np.flatnonzero(length > most)
    for begin, blocks in {(int(first[present][n]), int(length[n])) for n in beyond[:FORERUNNERS]}:
        # The chip reads on until it detects that, and a line's words are checked at once: if what
        # it finds there does not ascend, it may report that instead of a coordinate.
        number = np.arange(most - 1, min(blocks, most + READ_AHEAD))
        addresses = cell.blocks + WORD_BYTES * (begin + number) & ADDRESS_MASK
        watch.blocks(row.number, o, addresses[1:])
        words = image.gather(addresses, np.uint32)
        if _unsound(number, words >> np.uint32(BLOCK_MASK_BITS), words.astype(np.uint16)).any():
            faults.add(ErrorCode.TENSOR, row.number)
    return Fibers(first, count, child)


def _spread(counts: Indices) -> tuple[Indices, Indices]:
    """Return, for ``counts[i]`` items of each i: i, and the item's number among i's."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]


def _words(
    row: Row, o: int, fibers: Fibers, image: Image, watch: Watch, faults: Faults
) -> tuple[Indices, Words, Masks, Words]:
    """Return token, coordinate, mask and rank of every block of operand o's fibers."""
    cell = row.cells[o]
    token, number = _spread(fibers.count)
    if not cell.scans:
        mask = np.full(len(token), FULL_MASK)
        if row.size % LANES:
            mask[number == row.size // LANES] = (1 << row.size % LANES) - 1
        return token, number.astype(np.uint32), mask, np.zeros(len(token), np.uint32)
    addresses = cell.blocks + WORD_BYTES * (fibers.first[token] + number) & ADDRESS_MASK
    watch.blocks(row.number, o, addresses)
    words = image.gather(addresses, np.uint32)
    mask = words.astype(np.uint16)
    counted = np.bitwise_count(mask)
    before = np.cumsum(counted, dtype=np.uint32) - counted
    # the first block of the same fiber
    begin = np.arange(len(token)) - number
    rank = before - before[begin]
    coordinate = words >> np.uint32(BLOCK_MASK_BITS)
    bad = _contradictions(row, number, coordinate, mask, faults)
    if bad.any():
        # the chip is about to stop, so the rest of the fiber does not matter
        seen = np.cumsum(bad)
        kept: NDArray[np.bool_] = seen == (seen - bad)[begin]
        token, coordinate, mask, rank = token[kept], coordinate[kept], mask[kept], rank[kept]
    return token, coordinate, mask, rank


def _contradictions(
    row: Row, number: Indices, coordinate: Words, mask: Masks, faults: Faults
) -> NDArray[np.bool_]:
    """Return which block words are not part of a valid fiber, and record why."""
    unsound = _unsound(number, coordinate, mask)
    outside = coordinate.astype(np.int64) * LANES + np.where(mask, _highest(mask), 0) >= row.size
    if unsound.any():
        faults.add(ErrorCode.TENSOR, row.number)
    if outside.any():
        faults.add(ErrorCode.COORDINATE, row.number)
    return unsound | outside


def _unsound(number: Indices, coordinate: Words, mask: Masks) -> NDArray[np.bool_]:
    """Return which block words are empty, or do not ascend in their fiber."""
    unsound = mask == 0
    unsound[1:] |= (number[1:] > 0) & (coordinate[1:] <= coordinate[:-1])
    return unsound


def _highest(mask: Masks) -> Indices:
    """Return the highest lane of each mask that is not 0."""
    return np.floor(np.log2(np.maximum(mask, 1))).astype(np.int64)


def _join(
    row: Row, tokens: Tokens, fibers: dict[int, Fibers], image: Image, watch: Watch, faults: Faults
) -> Blocks:
    """Merge the tokens' fibers by block coordinate, and apply the two tables."""
    inputs = {o: _words(row, o, f, image, watch, faults) for o, f in fibers.items()}
    operands = range(len(row.cells))
    child = [fibers[o].child if o in fibers else np.zeros(0, np.uint32) for o in operands]
    if len(inputs) == 1:
        ((alone, (token, coordinate, mask, rank)),) = inputs.items()
        merged = {alone: (np.ones(len(token), np.bool_), mask, rank)}
    else:
        token, coordinate, merged = _merge(inputs)

    present = tokens.present[token]
    pattern = np.zeros(len(token), np.uint8)
    masks, ranks = [], []
    for o in operands:
        if o in merged:
            here, mask, rank = merged[o]
        else:
            here = (present >> o & 1).astype(np.bool_)
            mask, rank = here * FULL_MASK, np.zeros(0, np.uint32)
        pattern |= here.astype(np.uint8) << np.uint8(o)
        masks.append(mask)
        ranks.append(rank)

    lanes = np.zeros(len(token), np.uint16)
    joins = sum(1 << o for o in inputs)
    for p in np.flatnonzero(row.lane_keep):
        if not p & joins:
            continue  # lanes of no fiber
        of_pattern = np.full(len(token), FULL_MASK)
        for o in operands:
            of_pattern &= masks[o] if p >> o & 1 else ~masks[o]
        lanes |= of_pattern
    kept = np.flatnonzero(row.block_keep[pattern] & (lanes != 0))
    if len(kept) < len(token):
        token, coordinate, lanes = token[kept], coordinate[kept], lanes[kept]
        masks = [mask[kept] for mask in masks]
        ranks = [rank[kept] if len(rank) else rank for rank in ranks]
    return Blocks(token, coordinate, lanes, masks, ranks, child)


def _merge(
    inputs: dict[int, tuple[Indices, Words, Masks, Words]],
) -> tuple[Indices, Words, dict[int, tuple[NDArray[np.bool_], Masks, Words]]]:
    """Return all blocks of the inputs by token and coordinate, and which operands have each."""
    keys = [
        token << BLOCK_COORDINATE_BITS | coordinate for token, coordinate, _, _ in inputs.values()
    ]
    together = np.concatenate([np.zeros(0, np.int64), *keys])
    # some ascending runs: linear for a stable sort
    order = np.argsort(together, kind="stable")
    ordered = together[order]
    new = np.ones(len(ordered), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    place = np.empty(len(ordered), np.int64)
    place[order] = np.cumsum(new) - 1
    blocks = ordered[new]
    merged = {}
    begin = 0
    for o, (token, _, own_mask, own_rank) in inputs.items():
        own = place[begin : begin + len(token)]
        begin += len(token)
        here = np.zeros(len(blocks), np.bool_)
        mask = np.zeros(len(blocks), np.uint16)
        rank = np.zeros(len(blocks), np.uint32)
        here[own], mask[own], rank[own] = True, own_mask, own_rank
        merged[o] = (here, mask, rank)
    coordinate = blocks.astype(np.uint16).astype(np.uint32)
    return blocks >> BLOCK_COORDINATE_BITS, coordinate, merged


def expand(row: Row, tokens: Tokens, blocks: Blocks) -> Lanes:
    """Return every kept lane, and its child position of each operand."""
    count = np.bitwise_count(blocks.lanes)
    bits = np.unpackbits(blocks.lanes.astype("<u2").view(np.uint8), bitorder="little")
    lane = (np.flatnonzero(bits) & LANES - 1).astype(np.uint32)
    coordinate = np.repeat(blocks.coordinate * np.uint32(LANES), count) + lane
    present, position = [], []
    for o, cell in enumerate(row.cells):
        mask = blocks.mask[o]
        if (blocks.lanes & ~mask).any():
            present.append((np.repeat(mask, count) >> lane & 1).astype(np.bool_))
        else:
            present.append(np.ones(len(lane), np.bool_))
        # the first lane's position, and each lane's number from there
        step = np.uint32(cell.step)
        if cell.mode is CellMode.HOLD:
            position.append(np.repeat(tokens.position[o][blocks.token], count))
        elif cell.mode is CellMode.FOLLOW:
            base = tokens.position[o][blocks.token]
            position.append(np.repeat(base, count) + coordinate * step)
        else:
            below = (np.uint32(1) << lane) - np.uint32(1)
            number: Words = np.bitwise_count(np.repeat(mask, count) & below)
            base = blocks.child[o][blocks.token] + blocks.rank[o] * step
            position.append(np.repeat(base, count) + number * step)
    return Lanes(count, coordinate, present, position)


def children(row: Row, tokens: Tokens, blocks: Blocks, lanes: Lanes) -> Tokens:
    """Return the tokens for the next row: one for each lane, and null tokens for empty fibers."""
    token = np.repeat(blocks.token, lanes.count)
    count = np.bincount(token, minlength=len(tokens))
    empty = np.flatnonzero(count == 0)
    size = np.maximum(count, 1)
    last = np.cumsum(size) - 1
    # each lane's place is shifted by the null tokens before it
    of_lane = np.arange(len(token)) + np.cumsum(count == 0)[token]
    total = len(token) + len(empty)
    parent = np.empty(total, np.int64)
    parent[of_lane] = token
    parent[last[empty]] = empty

    present = np.zeros(total, np.uint8)
    position = []
    for o in range(len(row.cells)):
        present[of_lane] |= lanes.present[o].astype(np.uint8) << np.uint8(o)
        own = np.zeros(total, np.uint32)
        own[of_lane] = lanes.position[o]
        position.append(own)
    fiber, key = tokens.fiber[parent], tokens.key[parent]
    moved = lanes.coordinate * np.uint32(row.result_step)
    if row.result_mode is ResultMode.FIBER:
        fiber[of_lane] += moved
    elif row.result_mode is ResultMode.KEY:
        key[of_lane] = key[of_lane] + moved & KEY_MASK
    stop = np.zeros(total, np.uint8)
    stop[last] = tokens.stop + np.uint8(1)
    return Tokens(position, present, fiber, key, stop)
