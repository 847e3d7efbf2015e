"""The chip's configuration: what a user edits, and every width that follows from it.

No width is computed anywhere else. This module imports no Amaranth: the model and the runtime
read it too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import Enum
from numbers import Integral
from typing import Any

LINE_BYTES = 32
"""Bytes of a memory line: the unit of every read and write, and the AXI4 data width."""

LINE_SHIFT = (LINE_BYTES - 1).bit_length()
"""Bits of a byte address below the line number."""

LANES = 16
"""Coordinates of a block."""

BANK_SKEW = 3
"""Lane l of a block is in bank ``l ^ BANK_SKEW`` of the accumulator if the number of ones in the
block's number is odd, otherwise in bank l. So columns at a distance of a power of two, which have
the same lane in two blocks, are added in one step."""

PAIR = 2
"""Blocks that the leaf row handles a cycle."""

PAIR_COORDINATES = PAIR * LANES
"""Coordinates of a pair of blocks."""

COORDINATE_BITS = 20
"""Bits of a coordinate: a compressed level spans 2^20."""

POSITION_BITS = 32
"""Bits of a position (an index into a level's fibers or a tensor's values)."""

ADDRESS_BITS = 32
"""Bits of a byte address."""

LINE_BITS = ADDRESS_BITS - LINE_SHIFT
"""Bits of a line's number."""

WIDE_BITS = 32
"""Bits of a wide value (int32 or fp32)."""

DISPATCHER_LINES = 32
"""Pool lines of a single PE's dispatcher, which scans row 0, or the PE's if that has fewer."""

EPILOGUE_READS = 4
"""Neighbouring lanes whose biases and scales the epilogue reads in one request."""

CACHE_WAYS = 4
"""Ways of the cache."""

MAX_PES = 32
"""Maximum number of PEs of a chip."""

MAX_LOG2_COPIES = 2
"""Largest setting of the descriptor's ``copies``: the accumulator keeps up to ``2**2`` copies of a
key, so that additions to the key can overlap.
"""

DOT_RING = 4
"""Partial sums of the dot leaf. It bounds the adders' latency and is part of the result's
definition (the order of additions), so it is not a parameter."""


class NumberFormat(Enum):
    """A chip's number format: narrow values multiply, wide ones accumulate."""

    INT8 = "int8"
    BF16 = "bf16"

    @property
    def narrow_bytes(self) -> int:
        """Bytes of a narrow value."""
        return 1 if self is NumberFormat.INT8 else 2

    @property
    def narrow_bits(self) -> int:
        """Bits of a narrow value."""
        return 8 * self.narrow_bytes

    @property
    def add_latency(self) -> int:
        """Cycles of a wide addition."""
        return 1 if self is NumberFormat.INT8 else 4


@dataclass(frozen=True, kw_only=True)
class ChipConfig:
    """Everything a chip is generated from.

    Parameters
    ----------
    dtype : NumberFormat
        Number format of every multiplier and adder.
    rows : int
        Loops of the nest; the last row is the vector leaf.
    operands : int
        Operand columns, 2 or 3.
    multipliers : int
        M, the lanes of a leaf step: 1, 2, 4, 8 or 16.
    streams : int
        Read streams of the PE. Each operand's values take one; a scanned compressed level below
        row 0 takes two (positions and blocks), so there are ``(streams - operands) // 2``
        scanners. (Row 0 is scanned by the dispatcher, with streams of its own.)
    pool_lines : int
        Lines of the pool that all read streams share, a power of two.
    slots : int
        Accumulator slots of 16 lanes: blocks of a result fiber that one pass can hold. Fibers with
        more blocks take several passes.
    fibers_in_flight : int
        Result fibers with blocks that fill, wait or drain at once. A fiber is open from its first
        block's lookup, a memory latency before its values, to the end of its drain.
    fifo_depth : int
        Tokens between rows: how far an upper row runs ahead. A row looks up a position and then
        reads blocks, so two memory latencies' worth keep it busy with short fibers.
    stream_depth : int
        Steps that a read stream may be requested ahead of their use.
    kept_lines : int
        Lines of values that each operand's stream keeps, a power of two, or 0: a line that is used
        again while it is kept is not read again.
    reads_outstanding : int
        Line reads in flight at each memory port.
    pes : int
        Processing elements, 1 to 32. They share out the outermost loop (`dispatch`). With more than
        one, a cache is between them and the memory ports.
    cache : int
        1: a single PE reads through the cache, too. Loop orders, and with them the last bits of
        sums, are those of any number of PEs with a cache.
    memory_ports : int
        AXI4 ports to memory, each with a line read and a line write per cycle: 1, or 2 behind a
        cache. Of two, port p carries the lines whose number modulo 2 is p.
    cache_lines : int
        Lines of that cache, a power of two.
    cache_banks : int
        Banks of that cache, a power of two, at least 2 for each memory port: line reads that it
        serves per cycle.
    watchdog : int
        Cycles without a transfer, while one is outstanding, after which the run ends with a memory
        timeout.

    Raises
    ------
    ValueError
        If a field is out of its range; the message quotes the field and its value.
    TypeError
        If a number is not an integer.
    """

    dtype: NumberFormat = NumberFormat.BF16
    rows: int = 4
    operands: int = 3
    multipliers: int = 4
    streams: int = 12
    pool_lines: int = 128
    slots: int = 512
    fibers_in_flight: int = 16
    fifo_depth: int = 128
    stream_depth: int = 128
    kept_lines: int = 16
    reads_outstanding: int = 128
    watchdog: int = 1 << 16
    pes: int = 1
    cache: int = 0
    memory_ports: int = 1
    cache_lines: int = 2048
    cache_banks: int = 4

    def __post_init__(self) -> None:
        def check(name: str, ok: bool, expected: str) -> None:
            if not ok:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected {expected}")

        def power_of_two(n: int) -> bool:
            return n > 0 and n & (n - 1) == 0

        check("dtype", isinstance(self.dtype, NumberFormat), "a NumberFormat")
        for name in (f.name for f in fields(self) if f.name != "dtype"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise TypeError(f"{name}={value!r}: expected an integer")
            object.__setattr__(self, name, int(value))  # NumPy's would overflow
        check("rows", 2 <= self.rows <= 6, "2 to 6")
        check("operands", 2 <= self.operands <= 3, "2 or 3")
        check("multipliers", self.multipliers in (1, 2, 4, 8, 16), "1, 2, 4, 8 or 16")
        check("streams", self.scanners >= 1, f"at least operands + 2 = {self.operands + 2}")
        check(
            "pool_lines",
            power_of_two(self.pool_lines) and self.pool_lines >= 2 * self.pool_streams,
            f"a power of two, at least 2 for each of {self.pool_streams} streams",
        )
        check("slots", 2 <= self.slots <= 65536, "2 to 65536")
        check(
            "fibers_in_flight",
            power_of_two(self.fibers_in_flight) and self.fibers_in_flight <= 16,
            "1, 2, 4, 8 or 16",
        )
        check("fifo_depth", self.fifo_depth >= 1, "1 or more")
        check("stream_depth", self.stream_depth >= 1, "1 or more")
        check(
            "kept_lines",
            self.kept_lines == 0 or (self.kept_lines > 1 and power_of_two(self.kept_lines)),
            "0, or a power of two, 2 or more",
        )
        check("watchdog", 16 <= self.watchdog <= 1 << 24, "16 to 2^24")
        check("reads_outstanding", 1 <= self.reads_outstanding <= 256, "1 to 256")
        check("pes", 1 <= self.pes <= MAX_PES, f"1 to {MAX_PES}")
        check("cache", 0 <= self.cache <= 1, "0 or 1")
        most = 2 if self.cached else 1
        behind = "" if self.cached else " without a cache"
        check("memory_ports", 1 <= self.memory_ports <= most, f"1 to {most}{behind}")
        if self.pes > 1:
            # most of the dispatcher's pool is for the weights
            check(
                "pool_lines",
                self.pool_lines >= 8 * self.operands,
                f"at least 8 for each of {self.operands} operands, with several PEs",
            )
        check(
            "cache_banks",
            power_of_two(self.cache_banks) and 2 * self.memory_ports <= self.cache_banks <= 64,
            f"a power of two from {2 * self.memory_ports} to 64",
        )
        least = 2 * CACHE_WAYS * self.cache_banks
        check(
            "cache_lines",
            power_of_two(self.cache_lines) and least <= self.cache_lines <= 1 << 20,
            f"a power of two from {least} to 2^20",
        )

    @property
    def cached(self) -> bool:
        """Whether the PEs read through a cache."""
        return self.pes > 1 or self.cache == 1

    @property
    def cache_sets(self) -> int:
        """Sets of each bank of the cache, which it clears after a reset, one per cycle."""
        return self.cache_lines // (self.cache_banks * CACHE_WAYS)

    @property
    def scanners(self) -> int:
        """Compressed levels that the PE's rows can scan at once."""
        return (self.streams - self.operands) // 2

    @property
    def read_streams(self) -> int:
        """Read streams in use: positions and blocks of each scanner, then each operand's values."""
        return 2 * self.scanners + self.operands

    @property
    def pool_streams(self) -> int:
        """Rings in the pool: the read streams and the epilogue's biases and scales."""
        return self.read_streams + 1

    @property
    def dispatcher_lines(self) -> int:
        """Pool lines of the dispatcher, which reads an entry for each row if there are more PEs."""
        return self.pool_lines if self.pes > 1 else min(DISPATCHER_LINES, self.pool_lines)

    @property
    def memory_bytes(self) -> int:
        """Bytes that the memory ports can read, and write, in a cycle."""
        return LINE_BYTES * self.memory_ports

    @property
    def slot_bits(self) -> int:
        """Bits of an accumulator slot's number."""
        return max(1, (self.slots - 1).bit_length())

    @property
    def passes_ended(self) -> int:
        """Passes of result fibers that can be between their last lookup and the drain, those of
        fibers without blocks among them, which are not in flight: as many as come in a memory
        latency where one in eight fibers has blocks.
        """
        return max(16, 8 * self.fibers_in_flight)

    @property
    def evicted_slots(self) -> int:
        """Slots that an eviction frees, or more, if the blocks above a new one have so many."""
        return max(1, self.slots // 32)

    @property
    def pool_bits(self) -> int:
        """Bits of a pool slot's number: with one PE, also part of the AXI read identifier."""
        return (self.pool_lines - 1).bit_length()

    @property
    def scanner_bits(self) -> int:
        """Bits of a scanner's number."""
        return max(1, (self.scanners - 1).bit_length())

    @property
    def stop_bits(self) -> int:
        """Bits of a stop count, 0 to ``rows``."""
        return self.rows.bit_length()

    @property
    def table_bits(self) -> int:
        """Bits of a joiner or lane table: one for each presence pattern."""
        return 1 << self.operands


PRESETS: dict[str, dict[str, Any]] = {
    # one PE, without a cache: every one-PE figure
    "single": {},
    # four PEs; a miss looks up its line twice, so the banks are more than the PEs
    "small": {"pes": 4, "cache": 1, "cache_lines": 2048, "cache_banks": 8},
    # sixteen PEs at two memory ports
    "large": {
        "pes": 16,
        "cache": 1,
        "memory_ports": 2,
        "cache_lines": 32768,
        "cache_banks": 32,
    },
    # sized for an ECP5, and for simulation in Icarus and of units
    "tiny": {"slots": 128, "fibers_in_flight": 4},
    # for tests only: small queues and memories make rare paths common
    "shrunk": {
        "multipliers": 2,
        "streams": 9,
        "pool_lines": 32,
        "slots": 4,
        "fibers_in_flight": 2,
        "fifo_depth": 1,
        "stream_depth": 1,
        "kept_lines": 2,
        "reads_outstanding": 4,
        "watchdog": 4096,
        "cache_lines": 32,
        "cache_banks": 4,
    },
}
"""The presets by name: their differences from the defaults."""


def _check_field(name: str) -> None:
    """Raise ValueError if `name` is not a field that a number can override."""
    known = [f.name for f in fields(ChipConfig) if f.name != "dtype"]
    if name not in known:
        raise ValueError(f"config field {name!r}: expected one of {', '.join(known)}")


def parse_overrides(texts: Iterable[str]) -> dict[str, int]:
    """Return the fields and numbers of ``field=number`` texts.

    Raises
    ------
    ValueError
        For a text of another form, or a field that a number can't override.
    """
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not value.isdecimal():
            raise ValueError(f"{text!r}: expected FIELD=NUMBER")
        _check_field(name)
        found[name] = int(value)
    return found


def make_config(preset: str = "single", dtype: str = "bf16", **overrides: int) -> ChipConfig:
    """Return the preset's configuration with single fields overridden by name.

    Raises
    ------
    ValueError
        For an unknown preset, number format or field, or a value out of range.
    TypeError
        For a value that is not an integer.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r}: expected one of {', '.join(PRESETS)}")
    formats = {f.value: f for f in NumberFormat}
    if dtype not in formats:
        raise ValueError(f"dtype {dtype!r}: expected one of {', '.join(formats)}")
    for name in overrides:
        _check_field(name)
    return ChipConfig(dtype=formats[dtype], **{**PRESETS[preset], **overrides})
