"""Cycle-exact simulation of a generated chip, with its memory, as fast as Verilator allows.

The chip's Verilog and ``harness.cpp`` become a shared library (`library`), which is driven through
ctypes.
"""

import ctypes
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .library import build_simulator
from .memory import Memory
from .waves import Waves, WavesLike, claim, make_waves

REGISTER_CYCLES = 10_000
"""Cycles after which a register access without a response is an error."""

FIRST_CYCLES = 1000
CALL_SECONDS = 0.05, 0.2
"""Cycles of the library's first call, and minimum and maximum duration of the calls after that:
between calls, Python handles signals and calls the progress function.
"""

MAX_RANGES = 16
"""Maximum number of ranges to which writes can be confined."""

MAX_SAMPLES = 400
"""Maximum number of windows of sampled counters; beyond it, they are merged in pairs."""

PROTOCOL_RULES = (
    "a read request changed before it was accepted",
    "a write address changed before it was accepted",
    "write data changed before it was accepted",
    "a beat is not of 32 bytes",
    "a burst is not incrementing",
    "wlast does not mark the burst's last beat",
    "a line of the other memory port was requested",
)
"""Rules of AXI4 and of the ports that the memory checks, by their number in memory.h."""

MEMORY_FIELDS = (
    *("latency", "reorder", "seed", "fill"),
    *("error_first", "error_end", "window_first", "window_end"),
    *("waves_first", "waves_last", "threads"),
)
STATE_FIELDS = (
    *("cycle", "irq", "lines_read", "lines_written", "bytes_written"),
    *("window_violations", "window_address", "window_write", "window_cycle"),
    *("protocol_violations", "protocol_rule", "protocol_cycle"),
    *("stray_writes", "stray_address", "errors_answered"),
)


class _Settings(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint64) for name in MEMORY_FIELDS),
        ("bytes_per_cycle", ctypes.c_double),
        ("stall", ctypes.c_double),
    ]


class _State(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in STATE_FIELDS]


@dataclass(frozen=True)
class Traffic:
    """Transfers of the memory ports since the start."""

    lines_read: int
    lines_written: int
    bytes_written: int

    @property
    def bytes_read(self) -> int:
        """Bytes of the lines read: a read has no strobes."""
        return 32 * self.lines_read


class SimulationError(Exception):
    """The chip violated its specification; the message says how."""


class Simulator:
    """A chip and its memory, after the chip's reset. One thread at a time may use it.

    Parameters
    ----------
    verilog_text : str
        The design. Its top module has ``clk``, ``rst``, ``irq``, an AXI4-Lite port ``s_axil_*`` of
        32 bits and an AXI4 port ``m_axi_*`` with 32 bits of address and 256 of data, or two of
        them, ``m0_axi_*`` and ``m1_axi_*``, for every second line each. It may have wires
        ``counters__0``, ``counters__1``, ... of 32 bits to sample (`samples`).
    top : str
        Name of the top module.
    memory : Memory, optional
        The memory's behaviour.
    waves : path or (path, first, last), optional
        Records all signals to this file, in all cycles after the reset or in these: as FST if
        zlib's header is installed, otherwise as VCD; the suffix is set accordingly (see `waves`).
        One cycle is one nanosecond in the file.
    threads : int, optional
        Threads that simulate the instances of a module of which there are several. By default one
        for each eight of them, but no more than there are cores.

    Raises
    ------
    loopnest_sim.build.BuildError
        If Verilator or the C++ compiler is missing or fails.
    ValueError
        If another simulation records to the file.
    """

    def __init__(
        self,
        verilog_text: str,
        *,
        top: str = "chip",
        memory: Memory | None = None,
        waves: WavesLike | None = None,
        threads: int | None = None,
    ) -> None:
        self.memory = memory or Memory()
        recorded = Waves(Path()) if waves is None else make_waves(waves)
        self.waves = None if waves is None else recorded.path
        """The file of the waves."""
        trace = recorded.trace or None
        self._library = ctypes.CDLL(str(build_simulator(verilog_text, top=top, trace=trace)))
        self._library.loopnest_new.restype = ctypes.c_void_p
        whole = (0, 1 << 32)
        error_first, error_end = self.memory.errors or (0, 0)
        window_first, window_end = self.memory.window or whole
        settings = _Settings(
            latency=self.memory.latency,
            reorder=self.memory.reorder,
            seed=self.memory.seed,
            fill=self.memory.fill,
            error_first=error_first,
            error_end=error_end,
            window_first=window_first,
            window_end=window_end,
            waves_first=recorded.first,
            waves_last=recorded.last,
            threads=threads or 0,
            bytes_per_cycle=self.memory.bytes_per_cycle,
            stall=self.memory.stall,
        )
        path = "" if self.waves is None else os.fspath(self.waves)
        self._claimed = None if self.waves is None else claim(self.waves)
        handle = self._library.loopnest_new(ctypes.byref(settings), os.fsencode(path))
        self._process = os.getpid()
        self._handle: ctypes.c_void_p | None = ctypes.c_void_p(handle)

    def close(self) -> None:
        """Free the simulation and finish its waves. It cannot be used afterwards.

        A forked process has a copy of the simulation, but not of the waves' file: it leaves both.
        """
        # an interrupt must not lead to freeing it twice
        handle, self._handle = self._handle, None
        if handle is not None and os.getpid() == self._process:
            self._library.loopnest_delete(handle)
            if self._claimed is not None:
                self._claimed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()

    def write(self, address: int, data: Any) -> None:
        """Write bytes (or a contiguous array) to the memory, in zero cycles."""
        array = np.frombuffer(data, np.uint8)
        self._check_range(address, array.size)
        self._call("write", ctypes.c_uint64(address), _pointer(array), ctypes.c_uint64(array.size))

    def read(self, address: int, size: int) -> bytes:
        """Return bytes of the memory, in zero cycles."""
        self._check_range(address, size)
        array = np.empty(size, np.uint8)
        self._call("read", ctypes.c_uint64(address), _pointer(array), ctypes.c_uint64(size))
        return array.tobytes()

    def set_register(self, offset: int, value: int) -> None:
        """Write a register over AXI4-Lite.

        Raises
        ------
        SimulationError
            If the chip does not answer, or with an error.
        """
        code = self._call(
            "write_register",
            ctypes.c_uint32(offset),
            ctypes.c_uint32(value),
            ctypes.c_uint64(REGISTER_CYCLES),
        )
        self._check_register(f"the write of register {offset:#x}", code)

    def register(self, offset: int) -> int:
        """Read a register over AXI4-Lite; errors as `set_register`."""
        value = ctypes.c_uint32()
        code = self._call(
            "read_register",
            ctypes.c_uint32(offset),
            ctypes.byref(value),
            ctypes.c_uint64(REGISTER_CYCLES),
        )
        self._check_register(f"the read of register {offset:#x}", code)
        return value.value

    def reset(self) -> None:
        """Reset the chip by its pin; the memory keeps its contents, and drops outstanding
        transfers.

        `cycle` and `traffic` continue from their values.
        """
        self._call("reset")

    def mute(self, on: bool, ports: Sequence[int] = (0, 1)) -> None:
        """Make the memory stop accepting and answering requests at these ports, or resume."""
        self._call("mute", ctypes.c_uint32(sum(on << port for port in ports)))

    def confine(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Count bytes written outside up to 16 ranges ``[first, end)`` as `violations`.

        `errors_answered` restarts at 0.
        """
        if len(ranges) > MAX_RANGES:
            raise ValueError(f"{len(ranges)} ranges: expected up to {MAX_RANGES}")
        limits = np.array([limit for bounds in ranges for limit in bounds], np.uint64)
        self._call("confine", _pointer(limits), ctypes.c_uint32(len(ranges)))

    def fail(self, *, read: int = 0, write: int = 0) -> None:
        """Answer the n-th read and write beat from now on, from 1, with an error; 0: none."""
        self._call("fail", ctypes.c_uint64(read), ctypes.c_uint64(write))

    @property
    def errors_answered(self) -> int:
        """Beats that the memory has answered with an error since the last `confine`."""
        return int(self._state().errors_answered)

    def step(self, cycles: int = 1) -> None:
        """Run exactly this many cycles."""
        self._call("step", ctypes.c_uint64(cycles))

    def run_until_interrupt(
        self, max_cycles: int, progress: Callable[[int], None] | None = None
    ) -> int:
        """Run until ``irq`` is high; return the number of cycles.

        Parameters
        ----------
        max_cycles : int
            Maximum number of cycles to run.
        progress : callable, optional
            Called with `cycle` about ten times per second. If it raises, the chip is left in the
            middle of its run.

        Raises
        ------
        SimulationError
            If there was no interrupt.
        """
        start = self.cycle
        cycles = FIRST_CYCLES
        shortest, longest = CALL_SECONDS
        while not self.interrupt:
            left = start + max_cycles - self.cycle
            if left <= 0:
                raise SimulationError(f"no interrupt within {max_cycles} cycles")
            begin = time.perf_counter()
            self._call("run", ctypes.c_uint64(min(left, cycles)))
            seconds = time.perf_counter() - begin
            if seconds < shortest:
                cycles *= 2
            elif seconds > longest:
                cycles = max(1, cycles // 2)
            if progress is not None:
                progress(self.cycle)
        return self.cycle - start

    def begin_samples(self) -> None:
        """Discard the samples; `run_until_interrupt` takes new ones."""
        self._call("begin_samples")

    @property
    def samples(self) -> NDArray[np.uint32]:
        """The counters' values since `begin_samples`, at the ends of windows of equal length; shape
        (windows, counters). There are 200 to 400 windows, or one for each cycle of a shorter run.
        """
        counters = self._call("sampled_counters")
        values = np.empty((MAX_SAMPLES, counters), np.uint32)
        return values[: self._call("samples", _pointer(values))]

    @property
    def cycle(self) -> int:
        """Cycles since the reset."""
        return int(self._state().cycle)

    @property
    def interrupt(self) -> bool:
        """Whether ``irq`` is high."""
        return bool(self._state().irq)

    @property
    def traffic(self) -> Traffic:
        """The memory ports' transfers."""
        state = self._state()
        return Traffic(state.lines_read, state.lines_written, state.bytes_written)

    @property
    def violations(self) -> list[str]:
        """The first access outside the memory's window, the first write outside the ranges of
        `confine`, and the first violation of AXI4, if any.
        """
        state = self._state()
        found = []
        if state.stray_writes:
            found.append(
                f"{state.stray_writes} bytes written outside, the first at "
                f"{state.stray_address:#010x}"
            )
        if state.window_violations:
            kind = "write" if state.window_write else "read"
            found.append(
                f"{kind} outside the memory's window at {state.window_address:#010x} in cycle "
                f"{state.window_cycle} ({state.window_violations} such accesses)"
            )
        if state.protocol_violations:
            found.append(
                f"{PROTOCOL_RULES[state.protocol_rule]}, in cycle {state.protocol_cycle} "
                f"({state.protocol_violations} breaches of AXI4)"
            )
        return found

    def _state(self) -> _State:
        state = _State()
        self._call("state", ctypes.byref(state))
        return state

    def _call(self, name: str, *arguments: Any) -> int:
        if self._handle is None:
            raise ValueError("the simulator is closed")
        return int(getattr(self._library, f"loopnest_{name}")(self._handle, *arguments))

    def _check_range(self, address: int, size: int) -> None:
        if not 0 <= address <= address + size <= 1 << 32:
            raise ValueError(f"{size} bytes at {address:#x}: expected a range within 32 bits")

    def _check_register(self, what: str, code: int) -> None:
        if code < 0:
            raise SimulationError(f"{what} was not answered within {REGISTER_CYCLES} cycles")
        if code:
            raise SimulationError(f"{what} was answered with error {code}")


def _pointer(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
