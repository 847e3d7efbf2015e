"""The simulated memory behind a chip's AXI4 port."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Memory:
    """How the memory behaves in time, and what tests make it do wrong.

    None of it changes a result's value.

    Parameters
    ----------
    latency : int
        Cycles from a read's acceptance to its data, at least; likewise for a write's response.
    bytes_per_cycle : float
        Bandwidth of reads and, on its own, of writes; the port itself carries 32.
    stall : float
        Probability of every cycle of every channel to be left out.
    reorder : bool
        Answer reads of different identifiers in random order.
    seed : int
        Seed of the stalls and of the order.
    fill : int
        Byte value of memory that was never written.
    errors : tuple of int, optional
        Addresses ``[first, end)`` that answer with an error; writes to them are lost.
    window : tuple of int, optional
        Addresses ``[first, end)`` that the chip may touch; anything else is recorded
        (`Simulator.violations`) and answered as usual.

    Raises
    ------
    ValueError
        If a value is out of its range; the message quotes it.
    """

    latency: int = 100
    bytes_per_cycle: float = 32
    stall: float = 0.0
    reorder: bool = False
    seed: int = 1
    fill: int = 0
    errors: tuple[int, int] | None = None
    window: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        def check(name: str, ok: bool, expected: str) -> None:
            if not ok:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected {expected}")

        check("latency", 1 <= self.latency <= 1_000_000, "1 to 1000000 cycles")
        check("bytes_per_cycle", self.bytes_per_cycle > 0, "more than 0")
        check("stall", 0 <= self.stall < 1, "0 up to but not 1")
        check("fill", 0 <= self.fill < 256, "a byte")
        for name in ("errors", "window"):
            limits = getattr(self, name)
            ok = limits is None or 0 <= limits[0] <= limits[1] <= 1 << 32
            check(name, ok, "(first, end) within 32 bits")
