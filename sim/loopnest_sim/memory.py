"""The simulated memory behind a chip's AXI4 ports."""

from dataclasses import dataclass
from math import inf
from numbers import Integral, Real
from typing import Any

from loopnest_hw.config import LINE_BYTES


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The memory's timing, and the faults that tests inject.

    Timing never changes a result's value.

    Parameters
    ----------
    latency : int
        Minimum cycles from a read's acceptance to its data, and from a write's to its response.
    bytes_per_cycle : float
        Bandwidth of reads and, separately, of writes, of each memory port; the port itself carries
        32.
    stall : float
        Probability that a channel stalls in a cycle.
    reorder : bool
        Answer reads of different identifiers in random order.
    seed : int
        Seed of the stalls and of the order.
    fill : int
        Byte value of memory that was never written.
    errors : tuple of int, optional
        Addresses ``[first, end)`` that answer with an error; writes to them are lost.
    window : tuple of int, optional
        Addresses ``[first, end)`` that the chip may access; other accesses are recorded
        (`Simulator.violations`) and answered as usual.

    Raises
    ------
    ValueError
        If a value is out of its range; the message quotes it.
    TypeError
        If a value has another type.
    """

    latency: int = 100
    bytes_per_cycle: float = 32
    stall: float = 0.0
    reorder: bool = False
    seed: int = 1
    fill: int = 0
    errors: tuple[int, int] | None = None
    window: tuple[int, int] | None = None

    def rate(self, ports: int) -> float:
        """Return the bytes that so many ports read, and write, in a cycle at most."""
        return ports * min(self.bytes_per_cycle, LINE_BYTES)

    def __post_init__(self) -> None:
        def check(name: str, ok: bool, expected: str, error: type[Exception] = ValueError) -> None:
            if not ok:
                raise error(f"{name}={getattr(self, name)!r}: expected {expected}")

        for name in ("latency", "seed", "fill"):
            check(name, is_number(getattr(self, name), Integral), "an integer", TypeError)
        for name in ("bytes_per_cycle", "stall"):
            check(name, is_number(getattr(self, name), Real), "a number", TypeError)
        check("reorder", isinstance(self.reorder, bool), "True or False", TypeError)
        check("latency", 1 <= self.latency <= 1_000_000, "1 to 1000000 cycles")
        check("bytes_per_cycle", 0 < self.bytes_per_cycle < inf, "more than 0, and finite")
        check("stall", 0 <= self.stall < 1, "0 up to but not 1")
        check("fill", 0 <= self.fill < 256, "a byte")
        for name in ("errors", "window"):
            limits = getattr(self, name)
            if limits is None:
                continue
            ok = isinstance(limits, tuple) and all(is_number(n, Integral) for n in limits)
            check(name, ok, "a tuple of two integers", TypeError)
            ok = len(limits) == 2 and 0 <= limits[0] <= limits[1] <= 1 << 32
            check(name, ok, "(first, end) within 32 bits")


def is_number(value: Any, kind: type) -> bool:
    """Return whether a value is a number of a kind; a bool is not."""
    return isinstance(value, kind) and not isinstance(value, bool)
