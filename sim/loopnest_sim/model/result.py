"""The result path, for many fibers at once: fill, epilogue, memory.

It does what `fill` and `write` do for a stream of blocks, on arrays of single values. Values are
represented by their bits.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LANES, WIDE_BITS, ChipConfig
from loopnest_hw.descriptor import Output
from loopnest_hw.format import BLOCK_MASK_BITS, CHUNK_LANES, ENTRY_BYTES, OPEN_STRIDE, WORD_BYTES
from loopnest_hw.registers import ErrorCode

from ..image import Image
from .blocks import Blocks
from .check import REGIONS
from .epilogue import epilogue
from .faults import Faults
from .nest import Indices
from .sums import Finished
from .watch import Watch

FILL_VALUES = 1 << 22
"""Values of `full` result fibers processed at once, which bounds the model's memory."""

EPILOGUE_VALUES = 1 << 18
"""Values in the epilogue at once: each may need a block of its own."""


class Result:
    """Writes result fibers to memory in the order in which they end.

    Attributes
    ----------
    overflow : bool
        In an int8 chip's epilogue, the sum of a value and its bias does not fit int32.
    """

    def __init__(
        self,
        config: ChipConfig,
        kernel: Mapping[str, int],
        image: Image,
        watch: Watch,
        faults: Faults,
    ) -> None:
        self._kernel = kernel
        self._image = image
        self._watch = watch
        self._faults = faults
        self._format = config.dtype
        narrow = kernel["result.output"] == Output.NARROW
        self._size = config.dtype.narrow_bytes if narrow else WIDE_BITS // 8
        self._blocks = 0
        self._children = 0
        self._full = dict.fromkeys(REGIONS, False)
        self.overflow = False

    def write(self, finished: Finished) -> None:
        """Write these fibers after the previous ones."""
        if len(finished.fiber) == 0:
            return
        for some in self._filled(finished) if self._kernel["result.full"] else (finished,):
            done = self._finished(some)
            if self._kernel["result.compressed"]:
                self._compressed(done)
            else:
                index = done.fiber.astype(np.int64)[done.number] + done.key
                self._values(done, index, done.key % LANES >= CHUNK_LANES)

    def finish(self) -> None:
        """End the nest: record a fault for the first region that was too small."""
        self._faults.needed = self._children
        for where, name in enumerate(REGIONS):
            if self._full[name]:
                self._faults.add(ErrorCode.RESULT_FULL, where)
                return

    def _filled(self, finished: Finished) -> Iterator[Finished]:
        """Give the fibers every coordinate below the result's size, untouched ones filled.

        Blocks above the last of these coordinates follow them unchanged.
        """
        size = self._kernel["result.size"]
        whole = -(-size // LANES) * LANES
        step = max(1, FILL_VALUES // max(size, 1))
        for begin in range(0, len(finished.fiber), step):
            fiber = finished.fiber[begin : begin + step]
            here = slice(*np.searchsorted(finished.number, [begin, begin + len(fiber)]))
            own_number, own_key = finished.number[here] - begin, finished.key[here]
            own_value = finished.value[here]
            inside, beyond = own_key < size, own_key >= whole
            fill = np.uint32(self._kernel["result.fill"]).view(own_value.dtype)
            value = np.full(len(fiber) * size, fill)
            value[own_number[inside] * size + own_key[inside]] = own_value[inside]
            number, key = np.divmod(np.arange(len(value)), max(size, 1))
            if beyond.any():
                number = np.concatenate([number, own_number[beyond]])
                key = np.concatenate([key, own_key[beyond]])
                value = np.concatenate([value, own_value[beyond]])
                order = np.argsort(number, kind="stable")
                number, key, value = number[order], key[order], value[order]
            self._faults.worked(len(value))
            yield Finished(fiber, number, key, value)

    def _finished(self, some: Finished) -> Finished:
        """Apply the epilogue, and drop zeros."""
        bits = some.value.view(np.uint32)
        if not self._kernel["epilogue.enable"]:
            return Finished(some.fiber, some.number, some.key, bits)
        nothing = np.zeros(0, np.int64)
        parts = [(nothing, nothing, bits[:0])]
        for begin in range(0, len(bits), EPILOGUE_VALUES):
            here = slice(begin, begin + EPILOGUE_VALUES)
            number, key = some.number[here], some.key[here]
            start, row = _blocks(number, key)
            value = np.zeros((len(start), LANES), np.uint32)
            value[row, key % LANES] = bits[here]
            mask = np.bitwise_or.reduceat(1 << key % LANES, start)
            blocks, overflow = epilogue(
                Blocks.of(
                    key[start] // LANES,
                    mask,
                    value,
                    some.fiber[number[start]],
                    # it keeps a fiber's last block even if empty, so rows keep their numbers
                    last=np.ones(len(start)),
                    final=np.zeros(len(start)),
                ),
                self._kernel,
                self._format,
                self._image,
                self._watch,
            )
            self.overflow |= overflow
            row, lane = np.nonzero(blocks.lanes)
            key = LANES * blocks.coordinate[row] + lane
            parts.append((number[start][row], key, blocks.value[row, lane]))
        number, key, bits = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Finished(some.fiber, number, key, bits)

    def _compressed(self, some: Finished) -> None:
        """Append values, block words and the fibers' entries."""
        start, block = _blocks(some.number, some.key)
        rank = np.arange(len(block)) - start[block]
        index = self._children + np.arange(len(block))
        self._values(some, index, rank >= CHUNK_LANES)

        if len(start):
            bit = np.uint32(1) << (some.key % LANES).astype(np.uint32)
            word = np.bitwise_or.reduceat(bit, start)
            word |= (some.key[start] // LANES).astype(np.uint32) << np.uint32(BLOCK_MASK_BITS)
            capacity = self._kernel["result.blocks_end"] - self._kernel["result.blocks"]
            offset = (self._blocks + np.arange(len(word))) * WORD_BYTES
            fits = offset + WORD_BYTES <= capacity
            self._full["blocks"] |= not fits.all()
            addresses = self._kernel["result.blocks"] + offset[fits]
            self._watch.result_blocks(addresses)
            self._image.scatter(addresses, word[fits])

        fibers = len(some.fiber)
        entry = np.zeros((fibers, OPEN_STRIDE), np.uint32)
        end = self._blocks + np.cumsum(np.bincount(some.number[start], minlength=fibers))
        children = self._children + np.cumsum(np.bincount(some.number, minlength=fibers))
        entry[0, :2] = self._blocks, self._children
        entry[1:, 0], entry[1:, 1] = end[:-1], children[:-1]
        entry[:, 2] = end
        self._blocks, self._children = int(end[-1]), int(children[-1])
        offset = some.fiber.astype(np.int64) * ENTRY_BYTES
        fits = (
            offset + ENTRY_BYTES <= self._kernel["result.table_end"] - self._kernel["result.table"]
        )
        self._full["table"] |= not fits.all()
        addresses = self._kernel["result.table"] + offset[fits]
        self._watch.result_entries(addresses)
        for word_number in range(OPEN_STRIDE):
            self._image.scatter(addresses + word_number * WORD_BYTES, entry[fits, word_number])

    def _values(self, some: Finished, index: Indices, upper: NDArray[np.bool_]) -> None:
        """Write values at these indices; ``upper`` marks those in their block's second chunk."""
        if len(index) == 0:
            return
        raw = some.value
        capacity = self._kernel["result.values_end"] - self._kernel["result.values"]
        if (int(index.max()) + 1) * self._size > capacity:
            # a chunk of a block is dropped whole
            chunk = (some.number << BLOCK_MASK_BITS | some.key // LANES) << 1 | upper
            ends = np.ones(len(chunk), np.bool_)
            ends[:-1] = chunk[1:] != chunk[:-1]
            chunk_end = index[ends][np.cumsum(ends) - ends] + 1
            fits = chunk_end * self._size <= capacity
            self._full["values"] = True
            index, raw = index[fits], raw[fits]
        addresses = self._kernel["result.values"] + index * self._size
        self._watch.result_values(addresses, self._size)
        self._image.scatter(addresses, raw.astype(f"<u{self._size}"))


def _blocks(number: Indices, key: Indices) -> tuple[Indices, Indices]:
    """Return the first value of each block, and the block of each value."""
    place = number << BLOCK_MASK_BITS | key // LANES
    begins = np.ones(len(place), np.bool_)
    begins[1:] = place[1:] != place[:-1]
    return np.flatnonzero(begins), np.cumsum(begins) - 1
