"""The roofs of a kernel: the minimum number of cycles, from the work that the golden model counts
as it runs. Nothing here depends on the RTL.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.format import ENTRY_WORDS, WORD_BYTES

from .image import Image
from .model.gather import LineStore
from .model.initialise import initialised_lines
from .model.kernel import KernelResult, run_watched
from .model.watch import Watch


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work of a kernel, in one pass and with unlimited accumulator slots.

    Attributes
    ----------
    useful_lanes : int
        Lanes with all their factors.
    steps : int
        Leaf steps with lanes.
    lines_taken : int
        Of the operands' streams of values, the most items of one whose line is not that of the item
        before.
    lines_read, lines_written : int
        Over all streams, the items whose line is not that of the item before in the same stream,
        without the lines of values that a stream has kept (`model.gather.LineStore`). A cell that
        scans has a stream of position entries and one of block words, an operand one of values, the
        result one each of entries, block words and values.
    bytes_read, bytes_written : int
        Compulsory bytes: each byte of an operand that is used counts once, however often and by
        however many operands it is read; each byte of the result once.
    """

    useful_lanes: int
    steps: int
    lines_taken: int
    lines_read: int
    lines_written: int
    bytes_read: int
    bytes_written: int

    def pe_roof(self, config: ChipConfig) -> int:
        """Return the PE roof: the minimum cycles of the PEs, at one step and one line of an
        operand's values per cycle each, and one line read and one written per cycle at each memory
        port.

        Through a cache, the lines are those of the bytes that are moved at least.
        """
        if not config.cached:
            return max(self.steps, self.lines_taken, self.lines_read, self.lines_written)
        moved = max(self.bytes_read, self.bytes_written)
        return max(-(-self.steps // config.pes), -(-moved // config.memory_bytes))

    def roof(
        self,
        config: ChipConfig,
        *,
        read_rate: float | None = None,
        write_rate: float | None = None,
    ) -> float:
        """Return the minimum cycles of a chip; the rates are in bytes per cycle, by default its
        memory ports'.
        """
        return max(
            self.useful_lanes / (config.pes * config.multipliers),
            self.bytes_read / (read_rate or config.memory_bytes),
            self.bytes_written / (write_rate or config.memory_bytes),
        )


def run_measured(
    config: ChipConfig, image: Image, descriptor: dict[str, int]
) -> tuple[KernelResult, Work]:
    """Run a kernel on the memory image, which it changes; return its result and its work.

    Raises
    ------
    ModelError
        As `run_kernel` does, but for ``OVERFLOW``.
    """
    meter = _Meter(config)
    result = run_watched(config, image, descriptor, meter)
    work = Work(
        useful_lanes=result.multiplies,
        steps=result.steps,
        lines_taken=max(meter.taken.values(), default=0),
        lines_read=meter.read.lines,
        lines_written=meter.written.lines + initialised_lines(descriptor),
        bytes_read=meter.read.bytes,
        bytes_written=meter.written.bytes,
    )
    return result, work


def measure(config: ChipConfig, image: Image, descriptor: dict[str, int]) -> Work:
    """Return the work of a kernel, which is run on a copy of the memory image; errors as
    `run_measured`.
    """
    return run_measured(config, image.copy(), descriptor)[1]


class _Touched:
    """A set of items, all of one size, by address."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: NDArray[np.bool_] = np.zeros(1 << 10, np.bool_)

    def add(self, addresses: NDArray[np.int64]) -> None:
        index = addresses // self._size
        top = int(index.max()) + 1
        if top > len(self._items):
            grown = np.zeros(1 << (top - 1).bit_length(), np.bool_)
            grown[: len(self._items)] = self._items
            self._items = grown
        self._items[index] = True

    @property
    def bytes(self) -> int:
        return self._size * int(np.count_nonzero(self._items))


class _Traffic:
    """Lines and bytes of some streams."""

    def __init__(self) -> None:
        self.lines = 0
        self._line: dict[Hashable, int] = {}
        self._touched: dict[int, _Touched] = {}

    @property
    def bytes(self) -> int:
        return sum(touched.bytes for touched in self._touched.values())

    def items(self, stream: Hashable, addresses: NDArray[Any], size: int) -> None:
        """Count items of ``size`` bytes, in order."""
        self.lines += len(self.taken(stream, addresses, size))

    def taken(self, stream: Hashable, addresses: NDArray[Any], size: int) -> NDArray[Any]:
        """Touch items as `items`; return the lines of those whose line is not that of the item
        before, without counting them.
        """
        if len(addresses) == 0:
            return addresses
        line = addresses // LINE_BYTES
        before = np.concatenate([[self._line.get(stream, -1)], line[:-1]])
        self._line[stream] = int(line[-1])
        self._touched.setdefault(size, _Touched(size)).add(addresses)
        return line[line != before]

    def entries(self, stream: Hashable, addresses: NDArray[Any]) -> None:
        """Count position entries, by the addresses of their first words."""
        words = addresses[:, None] + WORD_BYTES * np.arange(ENTRY_WORDS)
        self.items(stream, words.reshape(-1), WORD_BYTES)


class _Meter(Watch):
    """Counts the reads and writes of the model."""

    def __init__(self, config: ChipConfig) -> None:
        self.read = _Traffic()
        self.written = _Traffic()
        self.taken = dict.fromkeys(range(config.operands), 0)
        self._stores = [LineStore(config.kept_lines) for _ in range(config.operands)]

    def entries(self, row: int, operand: int, addresses: NDArray[Any]) -> None:
        self.read.entries(("entries", row, operand), addresses)

    def blocks(self, row: int, operand: int, addresses: NDArray[Any]) -> None:
        self.read.items(("blocks", row, operand), addresses, WORD_BYTES)

    def values(self, operand: int, addresses: NDArray[Any], size: int) -> None:
        lines = self.read.taken(("values", operand), addresses, size)
        self.taken[operand] += len(lines)
        self.read.lines += int(np.count_nonzero(self._stores[operand].not_kept(lines)))

    def result_entries(self, addresses: NDArray[Any]) -> None:
        self.written.entries("entries", addresses)

    def result_blocks(self, addresses: NDArray[Any]) -> None:
        self.written.items("blocks", addresses, WORD_BYTES)

    def result_values(self, addresses: NDArray[Any], size: int) -> None:
        self.written.items("values", addresses, size)
