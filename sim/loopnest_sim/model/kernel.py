"""Runs a whole kernel on a memory image (docs/architecture.md)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from loopnest_hw.config import ChipConfig
from loopnest_hw.descriptor import ResultMode
from loopnest_hw.registers import ErrorCode

from ..image import Image
from .check import contradictions
from .faults import Faults, ModelError
from .fibers import Blocks, children, expand, joined_chunks
from .initialise import initialise
from .leaf import LeafCounts, leaf_terms
from .nest import Nest, Tokens, root
from .result import Result
from .sums import Finished, Sums
from .watch import Watch


@dataclass(frozen=True)
class KernelResult:
    """Result and counts of a kernel.

    Attributes
    ----------
    image : Image
        The memory, with the result: the image that the kernel was given, changed in place.
    multiplies : int
        Lanes with all their factors.
    steps : int
        Leaf steps with lanes. (One pass, unlimited slots.)
    empty_steps : int
        Leaf fibers without lanes.
    fibers : int
        Result fibers that ended.
    overflow : bool
        An int8 chip's arithmetic overflowed int32 (and wrapped).
    """

    image: Image
    multiplies: int
    steps: int
    empty_steps: int
    fibers: int
    overflow: bool


def run_kernel(config: ChipConfig, image: Image, descriptor: dict[str, int]) -> KernelResult:
    """Run one kernel on a memory image, which it changes.

    Parameters
    ----------
    config : ChipConfig
        The chip.
    image : Image
        The memory, with the operands.
    descriptor : dict[str, int]
        The kernel, as `descriptor.unpack` returns it.

    Raises
    ------
    ModelError
        If the chip would stop with an error: the first one that the model finds. (The model has no
        cycle budget.)
    """
    result = run_watched(config, image, descriptor, Watch())
    if result.overflow:
        raise ModelError(ErrorCode.OVERFLOW, 0)
    return result


def run_watched(
    config: ChipConfig, image: Image, descriptor: dict[str, int], watch: Watch
) -> KernelResult:
    """Do what `run_kernel` does, and report every access to ``watch``; overflow is not an error."""
    for _ in contradictions(config, descriptor):
        raise ModelError(ErrorCode.BAD_DESCRIPTOR, 0)
    faults = Faults()
    result = run_checked(config, image, descriptor, watch, faults)
    if result.overflow:
        faults.found.remove((ErrorCode.OVERFLOW, 0))
    faults.raise_first()
    return result


def run_checked(
    config: ChipConfig, image: Image, descriptor: dict[str, int], watch: Watch, faults: Faults
) -> KernelResult:
    """Run a kernel whose descriptor has no contradiction, and collect every error in ``faults``.

    If there are any, the chip would not complete this result.
    """
    nest = Nest.of(config, descriptor)
    sums = Sums(nest, faults)
    result = Result(config, descriptor, image, watch, faults)
    counts = LeafCounts()
    fibers = 0

    def write(finished: Finished) -> None:
        nonlocal fibers
        fibers += len(finished.fiber)
        result.write(finished)

    initialise(descriptor, image)
    row = nest.rows[0]
    first = root(nest, descriptor["result.start"])
    ((_, outermost),) = joined_chunks(row, first, image, watch, faults)
    faults.worked(1 + int(np.bitwise_count(outermost.lanes).sum()))
    below = children(row, first, outermost, expand(row, first, outermost))
    # Where row 0 selects the result's fibers and has no coordinate, none ends.
    some = row.result_mode != ResultMode.FIBER or bool(outermost.lanes.any())
    for tokens, blocks in leaf_chunks(nest, 1, below, image, watch, faults):
        finished = sums.feed(tokens, leaf_terms(nest, tokens, blocks, image, watch, counts))
        if some:
            write(finished)
    if some:
        write(sums.finish())
    result.finish()
    overflow = counts.overflow or sums.overflow or result.overflow
    if overflow:
        faults.add(ErrorCode.OVERFLOW, 0)
    return KernelResult(
        image=image,
        multiplies=counts.multiplies,
        steps=counts.lane_steps,
        empty_steps=counts.empty_steps,
        fibers=fibers,
        overflow=overflow,
    )


def leaf_chunks(
    nest: Nest, number: int, tokens: Tokens, image: Image, watch: Watch, faults: Faults
) -> Iterator[tuple[Tokens, Blocks]]:
    """Run the tokens through the rows from this one on; yield leaf tokens with their blocks."""
    row = nest.rows[number]
    leaf = number == len(nest.rows) - 1
    if row.bypass and not leaf:
        yield from leaf_chunks(nest, number + 1, tokens, image, watch, faults)
        return
    for some, blocks in joined_chunks(row, tokens, image, watch, faults):
        faults.worked(len(some) + int(np.bitwise_count(blocks.lanes).sum()))
        if leaf:
            yield some, blocks
        else:
            below = children(row, some, blocks, expand(row, some, blocks))
            yield from leaf_chunks(nest, number + 1, below, image, watch, faults)
