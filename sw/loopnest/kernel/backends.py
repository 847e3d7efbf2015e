"""Backends, which run kernels: the golden model, or the RTL in the simulator."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import ChipConfig
from loopnest_hw.descriptor import pack, unpack
from loopnest_hw.registers import (
    OFFSETS,
    PE_SHIFT,
    SNAPSHOT_BYTES,
    ErrorCode,
    counters,
)
from loopnest_sim.image import Image
from loopnest_sim.memory import Memory
from loopnest_sim.model.faults import ModelError
from loopnest_sim.roof import Work, run_measured
from loopnest_sim.waves import WavesLike, make_waves

from ..progress import Tick, Watch, task
from .lists import KernelList
from .lower import Kernel
from .verilog import cached_verilog

BACKENDS = ("rtl", "model")

START = 1 << 0
SOFT_RESET = 1 << 1
INTERRUPT_ENABLE = 1 << 2
BUSY = 1 << 0
DONE = 1 << 1
LATE = 1 << 3
"""Bit of the status: transfers that a soft reset gave up are still outstanding."""

SLACK = 1_000_000
"""Cycles beyond a kernel's budget for which the simulator waits for the interrupt."""

POLLS, POLL_CYCLES = 1000, 200
"""How often, and after how many cycles each, the status is read while a run that was left ends."""

CAUSES = {
    ErrorCode.BAD_DESCRIPTOR: "fields of the kernel descriptor contradict each other",
    ErrorCode.BUDGET: "the kernel's cycle budget ran out",
    ErrorCode.READ_ERROR: "the memory answered a read with an error",
    ErrorCode.WRITE_ERROR: "the memory answered a write with an error",
    ErrorCode.RESULT_FULL: "a region reserved for the result is too small",
    ErrorCode.OVERFLOW: "a value does not fit int32",
    ErrorCode.SLOTS: "the accumulator's slots ran out",
    ErrorCode.COORDINATE: "a coordinate is at or above its index's size",
    ErrorCode.TIMEOUT: "memory timeout",
    ErrorCode.TENSOR: "a tensor in memory is inconsistent",
    ErrorCode.OVERLAP: "the result overlaps an operand or the next descriptor",
    ErrorCode.KEYS: "the result's keys do not ascend",
}


OF_PES = {
    ErrorCode.RESULT_FULL,
    ErrorCode.OVERFLOW,
    ErrorCode.SLOTS,
    ErrorCode.COORDINATE,
    ErrorCode.TENSOR,
    ErrorCode.KEYS,
}
"""Errors that PEs find: the PE's number is in their ``where``."""


class ChipError(RuntimeError):
    """A kernel that the chip ended with an error.

    Attributes
    ----------
    code : ErrorCode
    cause : str
        The cause in words.
    where : int
        Place of the error; its meaning for each code is in `loopnest_hw.registers.ErrorCode`.
    pe : int
        The PE that found it, if it is an error that PEs find.
    needed : int
        For `ErrorCode.RESULT_FULL`: the number of values of the compressed result.
    """

    def __init__(self, code: ErrorCode, where: int, needed: int = 0) -> None:
        self.code = code
        self.cause = CAUSES.get(code, "unknown error")
        self.pe, self.where = divmod(where, 1 << PE_SHIFT) if code in OF_PES else (0, where)
        self.needed = needed
        place = f"where: {self.where:#x}" + (f", PE {self.pe}" if self.pe else "")
        super().__init__(f"{code.name}: {self.cause} ({place})")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.pe << PE_SHIFT | self.where, self.needed)


@dataclass(frozen=True)
class Counters:
    """What a run was counted at.

    Attributes
    ----------
    values : mapping of str to int
        Those of `registers.counters` that are known, in their order. Each PE's ``last_step`` is
        counted from the kernel's start.
    begin : int or None
        The simulator's cycle at the start; the waves' too.
    samples : array of uint32, optional
        The counters in the course of the run, as `Simulator.samples`.
    work : Work, optional
        The work, from the golden model.
    """

    values: Mapping[str, int]
    begin: int | None = None
    samples: NDArray[np.uint32] | None = None
    work: Work | None = None


def is_time(name: str) -> bool:
    """Return whether a counter is a time, not a number of events."""
    return name.endswith("last_step")


def _since(time: int, begin: int) -> int:
    """Return a time, counted from a kernel's begin; 0 if it lies before, or there was none."""
    return max(time - begin, 0)


def parted(
    ends: Sequence[Mapping[str, int]], begin: int, samples: NDArray[np.uint32]
) -> list[Counters]:
    """Return what each kernel of a list was counted at, from all counters at the end of each, since
    the start, and the samples of the list.
    """
    names = list(ends[0])
    cycles = samples[:, names.index("cycles")].astype(np.int64)
    # the first samples may belong to the run before, until the start clears the counters
    (falls,) = np.nonzero(np.diff(cycles) < 0)
    first = falls[-1] + 1 if len(falls) else 0
    samples, cycles = samples[first:], cycles[first:]
    before = dict.fromkeys(names, 0)
    found = []
    for end in ends:
        own = samples[(cycles > before["cycles"]) & (cycles <= end["cycles"])]
        own = own - np.array([before[name] for name in names], np.uint64).astype(np.uint32)
        values = {name: end[name] - before[name] for name in names}
        values |= {name: _since(end[name], before["cycles"]) for name in names if is_time(name)}
        found.append(Counters(values, begin + before["cycles"], own))
        before = dict(end)
    return found


class Backend(ABC):
    """Runs kernels on a memory of its own, one at a time.

    An exception may end a run anywhere (`KeyboardInterrupt` does): the next one is right.
    """

    _image: object | None = None
    """The image that is in memory, if the last run had one and was completed."""

    def __init__(self) -> None:
        self._there: dict[int, NDArray] = {}

    def _take(self, kernels: KernelList) -> list[tuple[int, NDArray]]:
        """Return the segments that are not in memory yet."""
        there = self._there if kernels.image is not None and kernels.image is self._image else {}
        self._image = None
        self._there = {} if kernels.image is None else there | dict(kernels.segments)
        return [(at, array) for at, array in kernels.segments if there.get(at) is not array]

    @abstractmethod
    def run(self, kernels: KernelList, progress: Tick | None = None) -> list[Counters]:
        """Write the kernels' segments, run them to their end; return what each was counted at.

        Raises
        ------
        ChipError
            If it ends with an error.
        """

    @abstractmethod
    def read(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        """Return bytes of the memory."""

    @abstractmethod
    def close(self) -> None:
        """Free the memory, and complete the waves. Nothing can be run afterwards."""


class ModelBackend(Backend):
    """The golden model: the same bits, without cycles."""

    def __init__(self, config: ChipConfig) -> None:
        super().__init__()
        self._config = config
        self._memory = Image()

    def run(self, kernels: KernelList, progress: Tick | None = None) -> list[Counters]:
        if kernels.image is None or kernels.image is not self._image:
            self._memory = Image()
        for address, array in self._take(kernels):
            self._memory.write(address, array)
        found = [self._run(kernel) for kernel in kernels.kernels]
        self._image = kernels.image
        return found

    def _run(self, kernel: Kernel) -> Counters:
        descriptor = unpack(self._config, pack(self._config, kernel.fields))
        try:
            done, work = run_measured(self._config, self._memory, descriptor)
        except ModelError as error:
            raise ChipError(error.code, error.where, error.needed) from None
        if done.overflow:
            raise ChipError(ErrorCode.OVERFLOW, 0)
        return Counters({"multiplies": done.multiplies, "leaf_steps": done.steps}, work=work)

    def read(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        return self._memory.read(address, nbytes)

    def close(self) -> None:
        self._memory = Image()


class RtlBackend(Backend):
    """The chip's Verilog, compiled by Verilator, with a memory behind its AXI4 port."""

    def __init__(
        self, config: ChipConfig, memory: Memory, waves: WavesLike | None, *, show: bool = False
    ) -> None:
        from loopnest_sim.simulator import Simulator

        super().__init__()
        self._names = [name for name, _ in counters(config.pes)]
        what = f"({config.dtype.value}, {config.multipliers} multipliers)"
        with task(f"writing the Verilog {what}", show=show):
            verilog = cached_verilog(config)
        with task(f"compiling the chip {what}", show=show):
            self._simulator: Any = Simulator(verilog, top="loopnest", memory=memory, waves=waves)
        self._running = False
        # no host starts a kernel so soon after the reset that the cache is not cleared yet
        self._clearing = config.cache_sets if config.cached else 0
        self._simulator.step(self._clearing)

    def run(self, kernels: KernelList, progress: Tick | None = None) -> list[Counters]:
        if self._running:
            self._stop()
        # until the chip has ended it: an exception leaves it in the middle of this one
        self._running = True
        chip = self._simulator
        for address, array in self._take(kernels):
            chip.write(address, np.ascontiguousarray(array).tobytes())
        chip.set_register(OFFSETS["status"], DONE)
        chip.set_register(OFFSETS["kernels"], kernels.descriptor)
        begin = chip.cycle
        chip.begin_samples()
        chip.set_register(OFFSETS["control"], START | INTERRUPT_ENABLE)
        chip.run_until_interrupt(
            kernels.budget + SLACK,
            None if progress is None else lambda cycle: progress(cycle - begin),
        )
        code = ErrorCode(chip.register(OFFSETS["error"]))
        if code is not ErrorCode.NONE:
            where, needed = (chip.register(OFFSETS[n]) for n in ("error_where", "result_values"))
            chip.set_register(OFFSETS["control"], SOFT_RESET)
            self._running = False
            raise ChipError(code, where, needed)
        values = {name: chip.register(OFFSETS[name]) for name in self._names}
        samples = chip.samples
        found = [Counters(values, begin, samples)]
        if len(kernels.kernels) > 1:
            ends = [self._snapshot(kernel) for kernel in kernels.kernels]
            ends[-1]["cycles"] = values["cycles"]
            found = parted(ends, begin, samples)
        self._running = False
        self._image = kernels.image
        return found

    def _snapshot(self, kernel: Kernel) -> dict[str, int]:
        """Return the counters that a kernel has written at its end."""
        raw = self.read(kernel.fields["counters"], len(self._names) * SNAPSHOT_BYTES)
        return {name: int(n) for name, n in zip(self._names, raw.view("<u8"), strict=True)}

    def _stop(self) -> None:
        """End the run that an exception has left: by a soft reset, or where the chip does not
        answer or end, by its pin.
        """
        from loopnest_sim.simulator import SimulationError

        chip = self._simulator
        try:
            chip.set_register(OFFSETS["control"], SOFT_RESET)
            for _ in range(POLLS):
                chip.step(POLL_CYCLES)
                if not chip.register(OFFSETS["status"]) & (BUSY | LATE):
                    return
        except SimulationError:
            pass
        chip.reset()
        chip.step(self._clearing)

    def read(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        return np.frombuffer(bytes(self._simulator.read(address, nbytes)), np.uint8)

    def close(self) -> None:
        self._simulator.close()


def make_backend(
    backend: str,
    config: ChipConfig,
    memory: Memory,
    waves: WavesLike | None = None,
    progress: bool | Watch = False,
) -> Backend:
    """Return the backend ``"rtl"`` or ``"model"``; ValueError for another name."""
    if waves is not None:
        make_waves(waves)  # a wrong one is told before anything is built
    if backend == "rtl":
        return RtlBackend(config, memory, waves, show=progress is True)
    if backend == "model":
        if waves is not None:
            raise ValueError(
                f"waves={waves!r}: the golden model has no signals: expected backend='rtl'"
            )
        return ModelBackend(config)
    raise ValueError(f"backend {backend!r}: expected one of {', '.join(BACKENDS)}")
