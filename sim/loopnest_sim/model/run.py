"""Runs a list of kernels in memory, from the first descriptor's address on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import ADDRESS_BITS, LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import descriptor_lines, unpack
from loopnest_hw.registers import ErrorCode

from ..image import Image
from .check import REGIONS, contradictions, regions
from .faults import Fault, Faults, TooMuchWorkError
from .initialise import initialised_lines
from .kernel import run_checked
from .watch import Watch

SPACE = 1 << ADDRESS_BITS
WORK_A_CYCLE = 64
"""Upper bound of the tokens, blocks and lanes that a chip processes in a cycle."""


@dataclass(frozen=True)
class Run:
    """How a list of kernels ends.

    Attributes
    ----------
    errors : list of (ErrorCode, int)
        The chip ends with one of them; empty if it ends without an error. Whether a cycle budget
        suffices depends on timing: the model reports only a budget that cannot suffice.
    completed : int
        Kernels that complete before the one with the errors.
    work : int
        Tokens, blocks and lanes of the last kernel.
    regions : list of (int, int)
        First address and end of each region that the started kernels may write.
    counters : list of (int, int)
        Those of them that the counters are written to, which the model leaves as they are.
    entries : NDArray[np.int64]
        Addresses of the entries that the last kernel wrote to its result's table, each once.
    reads : NDArray[np.int64]
        Lines that were read, each once, by address.
    """

    errors: list[Fault]
    completed: int
    work: int
    regions: list[tuple[int, int]]
    counters: list[tuple[int, int]]
    entries: NDArray[np.int64]
    reads: NDArray[np.int64]


class Accesses(Watch):
    """Collects the lines read, and the result's entries."""

    def __init__(self) -> None:
        self._lines: list[NDArray[Any]] = []
        self._entries: list[NDArray[Any]] = []

    def entries(self, row: int, operand: int, addresses: NDArray[Any]) -> None:
        self._add(addresses)
        self._add((addresses + 8) % SPACE)

    def blocks(self, row: int, operand: int, addresses: NDArray[Any]) -> None:
        self._add(addresses)

    def values(self, operand: int, addresses: NDArray[Any], size: int) -> None:
        self._add(addresses)

    def epilogue(self, addresses: NDArray[Any]) -> None:
        self._add(addresses)

    def result_entries(self, addresses: NDArray[Any]) -> None:
        self._entries.append(addresses)

    def written_entries(self) -> NDArray[np.int64]:
        """Return the addresses of the result's entries, each once, ascending."""
        return np.unique(np.concatenate([np.zeros(0, np.int64), *self._entries]))

    def lines(self) -> NDArray[np.int64]:
        """Return the lines' byte addresses, each once, ascending."""
        return np.unique(np.concatenate([np.zeros(0, np.int64), *self._lines]))

    def _add(self, addresses: NDArray[Any]) -> None:
        lines = addresses.astype(np.int64)
        self._lines.append(np.unique(lines - lines % LINE_BYTES))


def run_kernels(config: ChipConfig, image: Image, address: int) -> Run:
    """Run the kernels whose descriptors begin at ``address``, as the chip would.

    Parameters
    ----------
    config : ChipConfig
        The chip.
    image : Image
        The memory, which is changed; if there are errors, its contents may differ from the chip's.
    address : int
        Byte address of the first descriptor.
    """
    read: list[NDArray[np.int64]] = []
    written: list[tuple[int, int]] = []
    counters: list[tuple[int, int]] = []
    size = descriptor_lines(config) * LINE_BYTES
    work = completed = 0
    before: dict[str, int] | None = None
    entries = np.zeros(0, np.int64)

    def ended(errors: list[Fault]) -> Run:
        lines = np.unique(np.concatenate([np.zeros(0, np.int64), *read]))
        return Run(errors, completed, work, written, counters, entries, lines)

    if address % LINE_BYTES:
        return ended([(ErrorCode.BAD_DESCRIPTOR, 0)])
    while True:
        lines = (address + np.arange(0, size, LINE_BYTES)) % SPACE
        if before is not None and (overlaps := _overlaps(config, before, lines)):
            return ended(overlaps)
        words = np.concatenate([image.view(int(line), LINE_BYTES // 4, "<u4") for line in lines])
        kernel = unpack(config, words)
        address = (address + size) % SPACE
        if any(True for _ in contradictions(config, kernel)):
            return ended([(ErrorCode.BAD_DESCRIPTOR, completed)])
        own = regions(config, kernel)
        written += own.values()
        counters += [region for name, region in own.items() if name == "counters"]
        accesses = Accesses()
        faults = Faults(WORK_A_CYCLE * (kernel["budget"] + LINE_BYTES))
        if (filled := initialised_lines(kernel)) > kernel["budget"]:
            faults.add(ErrorCode.BUDGET, completed)
            kernel["result.initialise"] = 0  # what it writes until then does not matter
        else:
            faults.worked(filled)
        try:
            run_checked(config, image, kernel, accesses, faults)
        except TooMuchWorkError:
            faults.add(ErrorCode.BUDGET, completed)
        work = faults.work
        read.append(accesses.lines())
        entries = accesses.written_entries()
        for fault in _overlaps(config, kernel, read[-1]):
            faults.add(*fault)
        if faults.found:
            return ended(faults.found)
        completed += 1
        if kernel["last"]:
            return ended([])
        before = kernel


def _overlaps(config: ChipConfig, kernel: dict[str, int], lines: NDArray[np.int64]) -> list[Fault]:
    """Return an `OVERLAP` for each region of the result that contains one of the lines."""
    found: list[Fault] = []
    for name, (begin, end) in regions(config, kernel).items():
        if ((lines >= begin) & (lines < end)).any():
            found.append((ErrorCode.OVERLAP, REGIONS.index(name)))
    return found
