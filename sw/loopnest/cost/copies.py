"""Chooses the number of copies of a key in the accumulator: the fewest that avoid stalls.

A step waits while the accumulator still adds to one of its lanes. How often that happens depends on
the tensors: the golden model runs a sample of the nest, and the stalls of its steps are counted for
each number of copies. A sum's last bits depend on the choice; it is the same on all backends.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.accumulate.place import BANKS
from loopnest_hw.config import COORDINATE_BITS, LANES, MAX_LOG2_COPIES, ChipConfig
from loopnest_hw.descriptor import LeafMode, pack, unpack
from loopnest_sim.image import Image
from loopnest_sim.model.faults import Faults
from loopnest_sim.model.fibers import Blocks, children, expand, joined_chunks
from loopnest_sim.model.kernel import leaf_chunks
from loopnest_sim.model.leaf import leaf_steps
from loopnest_sim.model.nest import Nest, Tokens, root
from loopnest_sim.model.steps import places
from loopnest_sim.model.sums import result_fibers
from loopnest_sim.model.watch import Watch

SAMPLE = 4096
"""Approximate number of lanes in the sample."""

GROUPS = 4
"""Number of places in the first loop that are sampled."""

WORTH = 0.97
"""More copies are chosen only if they reduce the cycles below this share."""


@dataclass(frozen=True)
class Sample:
    """Lanes in order: each one's step, result fiber, key, and number of its leaf fiber within the
    result fiber.
    """

    step: NDArray[np.int64]
    number: NDArray[np.int64]
    key: NDArray[np.int64]
    turn: NDArray[np.int64]


def choose_copies(
    config: ChipConfig,
    fields: Mapping[str, int],
    make_image: Callable[[], Image],
    multiplies: float,
    held: float = 0.0,
) -> int:
    """Return the descriptor's ``copies`` for a kernel in memory with this number of lanes.

    ``held`` is the number of blocks that the accumulator must be able to hold at once.
    """
    latency = config.dtype.add_latency
    if not fields["accumulate"] or latency == 1:
        return 0
    nest = Nest.of(config, unpack(config, pack(config, fields)))
    best, least = 0, None
    samples = _samples(nest, make_image(), fields.get("result.start", 0), multiplies)
    for copies in range(MAX_LOG2_COPIES + 1):
        if fields["result.size"] << copies > 1 << COORDINATE_BITS:
            break
        if copies and held * 2**copies > config.slots:
            break
        cycles = steps = 0
        for sample in samples:
            block = (sample.number << COORDINATE_BITS | sample.key // LANES) << copies
            block |= sample.turn & (1 << copies) - 1
            blocks = np.unique(block)
            drained = len(blocks)
            fibers = len(np.unique(sample.number))
            if copies and not held and drained > fibers * config.slots // config.fibers_in_flight:
                return best
            if not copies and fields["result.compressed"]:
                _, of_word = np.unique(blocks // BANKS, return_counts=True)
                # two blocks of a directory word leave at once
                drained = int(((of_word + 1) // 2).sum())
            chain = block * LANES + sample.key % LANES
            cycles += max(drained, _fill_cycles(sample.step, chain, latency))
            steps += 1 + int(np.count_nonzero(np.diff(sample.step)))
        if least is None or cycles < WORTH * least:
            best, least = copies, cycles
        if WORTH * least <= steps:  # which is what they take without any stall
            break
    return best


def _fill_cycles(step: NDArray[np.int64], lane: NDArray[np.int64], latency: int) -> int:
    """Return the cycles that the steps take if each waits for additions to its lanes."""
    free: dict[int, int] = {}
    lanes = lane.tolist()
    begin = cycle = 0
    for end in (*(np.flatnonzero(np.diff(step)) + 1).tolist(), len(lanes)):
        own = lanes[begin:end]
        start = max(cycle, *map(free.get, own, repeat(0)), 0)
        free.update(zip(own, repeat(start + latency)))
        begin, cycle = end, start + 1
    return cycle


def _samples(nest: Nest, image: Image, start: int, multiplies: float) -> list[Sample]:
    """Return samples of the nest's lanes, from places spread over its first loop."""
    watch, faults = Watch(), Faults()
    first = nest.rows[0]
    found = []
    for tokens, blocks in joined_chunks(first, root(nest, start), image, watch, faults):
        below = children(first, tokens, blocks, expand(first, tokens, blocks))
        size = max(1, int(len(below) * SAMPLE / (GROUPS * max(1.0, multiplies))))
        for begin in range(0, len(below), max(size, -(-len(below) // GROUPS))):
            part = below.part(begin, begin + size)
            chunk = next(leaf_chunks(nest, 1, part, image, watch, faults))
            found.append(_lanes(nest, *chunk))
    return found


def _first_blocks(blocks: Blocks, lanes: int) -> Blocks:
    """Return the blocks of which the steps with this number of lanes are formed."""
    total = np.cumsum(np.bitwise_count(blocks.lanes), dtype=np.int64)
    # the last step may take lanes of a further block
    count = int(np.searchsorted(total, lanes)) + 2
    return Blocks(
        blocks.token[:count],
        blocks.coordinate[:count],
        blocks.lanes[:count],
        [mask[:count] for mask in blocks.mask],
        [rank[:count] for rank in blocks.rank],
        blocks.child,
    )


def _lanes(nest: Nest, tokens: Tokens, blocks: Blocks) -> Sample:
    row = nest.rows[-1]
    if nest.leaf_mode is not LeafMode.DOT:
        blocks = _first_blocks(blocks, SAMPLE)
    lanes = expand(row, tokens, blocks)
    steps = leaf_steps(nest, tokens, blocks)
    step, _ = places(steps, lanes.block, nest.config.multipliers)
    of_lane = np.repeat(blocks.token, lanes.count)
    _, number, turn = result_fibers(nest, tokens)
    if nest.leaf_mode is LeafMode.DOT:
        # a fiber's sum arrives when its last step does
        last = np.flatnonzero(np.diff(of_lane, append=-1))
        step, token = step[last], of_lane[last]
        key = tokens.key[token]
    else:
        # a step's lanes are not in the order of the lanes of its blocks
        order = np.argsort(step, kind="stable")[:SAMPLE]
        step, token = step[order], of_lane[order]
        key = tokens.key[token] + lanes.coordinate[order] * np.uint32(row.result_step)
    return Sample(step, number[token], key.astype(np.int64), turn[token])
