"""Reads recorded waves: the value of every signal at the end of each cycle, as bits of words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pywellen
from numpy.typing import NDArray

CYCLE_TIME = 1000
"""Of the waves, in the file's picoseconds."""

Words = NDArray[np.uint64]


class Recording:
    """The signals of a file of waves (FST or VCD) that a `Simulator` has recorded and closed.

    Attributes
    ----------
    first, cycles : int
        The first recorded cycle, and their number.
    scopes : frozenset of str
        The instances' paths, with dots.
    """

    def __init__(self, path: Path) -> None:
        self._file = pywellen.Waveform(str(path))
        self._signals: dict[str, Any] = {var.full_name: var for var in self._file.all_vars()}
        self._words: dict[str, Words] = {}
        clock = next(var for name, var in self._signals.items() if name.split(".")[-1] == "clk")
        times = [time for time, _ in clock.tv]
        self.first = times[0] // CYCLE_TIME
        self.cycles = times[-1] // CYCLE_TIME - self.first + 1
        self.scopes = frozenset(name.rpartition(".")[0] for name in self._signals)

    @property
    def words(self) -> int:
        """Words of 64 cycles; the last one's bits behind the last cycle repeat it."""
        return -(-self.cycles // 64)

    def width(self, name: str) -> int:
        """Return a signal's bits; 0 if it was not recorded."""
        return int(self._signals[name].bitwidth or 0) if name in self._signals else 0

    def bit(self, name: str, bit: int) -> Words:
        """Return a bit of a signal: bit c of the words is its value in cycle ``first + c``."""
        if name not in self._words:
            self._words[name] = self._pack(self._signals[name].tv, self.width(name))
        found: Words = self._words[name][bit]
        return found

    def values(self, name: str) -> list[int]:
        """Return a signal's value in each cycle."""
        found: list[int] = []
        for time, value in self._signals[name].tv:
            at = time // CYCLE_TIME - self.first
            found += found[-1:] * (at - len(found))
            found[at:] = [_number(value)]
        return found + found[-1:] * (self.cycles - len(found))

    def _pack(self, changes: Sequence[tuple[int, Any]], width: int) -> Words:
        """Return the words of each bit, from the low one."""
        at = np.array([time // CYCLE_TIME - self.first for time, _ in changes])
        size = -(-width // 8)
        data = b"".join(_number(value).to_bytes(size, "little") for _, value in changes)
        numbers = np.frombuffer(data, np.uint8).reshape(len(changes), size)
        # the last change of a cycle counts
        changed = np.searchsorted(at, np.arange(64 * self.words), side="right") - 1
        bits = np.unpackbits(numbers, axis=1, count=width, bitorder="little").T
        rows = np.packbits(bits[:, np.maximum(changed, 0)], axis=1, bitorder="little")
        packed: Words = np.ascontiguousarray(rows).view("<u8")
        return packed


def _number(value: Any) -> int:
    """Return a value as a number; unknown bits are 0."""
    if isinstance(value, int):
        return value
    return int(str(value).lower().translate({ord("x"): "0", ord("z"): "0"}) or "0", 2)
