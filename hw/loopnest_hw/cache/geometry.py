"""The cache's configuration, the place of a line in it, and the payloads between its units.

It imports no Amaranth at run time but for the layouts: `bank_of`, `upper_of` and `line_of` take
integers as well as signals, so the circuit and the golden functions share them.
"""

from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Any

from amaranth.lib import data

from ..config import CACHE_WAYS, LINE_BITS, LINE_BYTES, ChipConfig

MIN_WAITERS, MAX_WAITERS = 2, 64
"""Bounds of a bank's waiters in a chip."""

MAX_LANES = 4
"""Lanes of a client in a chip, if there are so many banks: more than that gain little."""


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Everything the cache is generated from. `of` is a chip's; benches have others.

    Parameters
    ----------
    clients : int
        Read clients: the PEs and the dispatcher.
    slot_bits : int
        Bits of a client's slot, which tells its requests in flight apart.
    banks : int
        Banks, a power of two: lookups per cycle.
    ports : int
        Memory ports, 1 or 2; lines are interleaved between them by the lowest bit of their number.
    sets, ways : int
        Lines of a bank: ``sets`` (a power of two) times ``ways``.
    waiters : int
        Groups of requests that a bank can have waiting for memory: a power of two. It bounds the
        bank's reads in flight too.
    window : int
        Requests of a client, any of which may go. A place is free again in the cycle after its
        request has left.
    lanes : int
        Replies that a client can accept in a cycle; it passes on one. A power of two, which
        divides ``banks``.
    epoch_bits : int
        A sweep over the sets follows only every ``2**epoch_bits``-th flush.
    line_bits : int
        Bits of a line number.

    Raises
    ------
    ValueError
        If a field is out of its range; the message quotes the field and its value.
    """

    clients: int
    slot_bits: int = 7
    banks: int = 16
    ports: int = 2
    sets: int = 512
    ways: int = 4
    waiters: int = 32
    window: int = 5
    lanes: int = 4
    epoch_bits: int = 6
    line_bits: int = LINE_BITS

    def __post_init__(self) -> None:
        def check(name: str, ok: bool, expected: str) -> None:
            if not ok:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected {expected}")

        def power_of_two(n: int) -> bool:
            return n > 0 and n & (n - 1) == 0

        for name in ("banks", "sets", "ways", "waiters", "lanes"):
            check(name, power_of_two(getattr(self, name)), "a power of two")
        check("banks", self.banks >= 2 * self.ports, f"at least 2 for each of {self.ports} ports")
        check("lanes", self.lanes <= self.banks, f"up to banks={self.banks}")
        taken = self.bank_bits + self.set_bits
        check("line_bits", self.line_bits > taken, f"more than {taken}")

    @classmethod
    def of(cls, config: ChipConfig) -> "CacheConfig":
        """Return a chip's cache: the last client is the dispatcher.

        There are four waiters for each read that may be outstanding, rounded up to a power of two
        for each bank, and `MAX_WAITERS` a bank at most: some wait for the line of another one, and
        banks do not have equally many (measured).
        """
        outstanding = config.memory_ports * config.reads_outstanding
        waiters = -(-4 * outstanding // config.cache_banks)
        return cls(
            clients=config.pes + 1,
            slot_bits=config.pool_bits,
            banks=config.cache_banks,
            ports=config.memory_ports,
            sets=config.cache_sets,
            ways=CACHE_WAYS,
            waiters=1 << (min(max(waiters, MIN_WAITERS), MAX_WAITERS) - 1).bit_length(),
            lanes=min(MAX_LANES, config.cache_banks),
        )

    @property
    def bank_bits(self) -> int:
        """Bits of a bank's number."""
        return self.banks.bit_length() - 1

    @property
    def port_bits(self) -> int:
        """Bits of a port's number: the lowest ones of its banks' and its lines'."""
        return self.ports.bit_length() - 1

    @property
    def set_bits(self) -> int:
        """Bits of a set's number."""
        return self.sets.bit_length() - 1

    @property
    def way_bits(self) -> int:
        """Bits of a way's number."""
        return self.ways.bit_length() - 1

    @property
    def upper_bits(self) -> int:
        """Bits of a line number that its bank leaves open."""
        return self.line_bits - self.bank_bits

    @property
    def tag_bits(self) -> int:
        """Bits of a line number that its bank and its set leave open."""
        return self.upper_bits - self.set_bits

    @property
    def waiter_bits(self) -> int:
        """Bits of a waiter's number."""
        return self.waiters.bit_length() - 1

    @property
    def lines(self) -> int:
        """Lines of the whole cache."""
        return self.banks * self.sets * self.ways


def fold(value: Any, bits: int, width: int) -> Any:
    """Return the exclusive or of the fields of ``width`` bits in ``value``, which has ``bits``."""
    mask = (1 << width) - 1
    return reduce(xor, ((value >> at) & mask for at in range(0, bits, width)))


def bank_of(config: CacheConfig, line: Any) -> Any:
    """Return the bank of a line.

    Its lowest bits are the port's; the others are a hash of all others of the line number, so lines
    at a stride that is a power of two use all of a port's banks.
    """
    ports = config.port_bits
    hashed = fold(line >> ports, config.line_bits - ports, config.bank_bits - ports)
    return (line & (config.ports - 1)) | (hashed << ports)


def upper_of(config: CacheConfig, line: Any) -> Any:
    """Return the bits of a line number that its bank leaves open."""
    return line >> config.bank_bits


def line_of(config: CacheConfig, bank: Any, upper: Any) -> Any:
    """Return the line of a bank with these upper bits: the inverse of `bank_of` and `upper_of`."""
    ports = config.port_bits
    hashed = fold(upper, config.upper_bits, config.bank_bits - ports) << ports
    return (upper << config.bank_bits) | (bank ^ hashed)


def set_of(config: CacheConfig, upper: Any) -> Any:
    """Return the set of a line in its bank: a hash of its upper bits."""
    return fold(upper, config.upper_bits, config.set_bits)


def tag_of(config: CacheConfig, upper: Any) -> Any:
    """Return the bits of a line number that its bank and its set leave open."""
    return upper >> config.set_bits


def request(config: CacheConfig) -> data.StructLayout:
    """A client's request of a line (`tokens.line_request`)."""
    return data.StructLayout({"line": config.line_bits, "slot": config.slot_bits})


def prefetch(config: CacheConfig) -> data.StructLayout:
    """A line to read into the cache, for which no client waits."""
    return data.StructLayout({"line": config.line_bits})


def reply(config: CacheConfig) -> data.StructLayout:
    """The answer to a request (`tokens.line_reply`)."""
    return data.StructLayout({"data": 8 * LINE_BYTES, "slot": config.slot_bits, "error": 1})


def group(config: CacheConfig) -> data.StructLayout:
    """Requests of one line: those of the clients in ``mask``, with each one's slot; or a
    prefetcher's, if there are none.
    """
    slots = data.ArrayLayout(config.slot_bits, config.clients)
    return data.StructLayout({"mask": config.clients, "slot": slots})


def lookup(config: CacheConfig) -> data.StructLayout:
    """Requests of one line, for its bank."""
    return data.StructLayout({"upper": config.upper_bits, "group": group(config)})


def place(config: CacheConfig) -> data.StructLayout:
    """The place of a line in its bank."""
    return data.StructLayout({"way": config.way_bits, "set": config.set_bits})


def miss(config: CacheConfig) -> data.StructLayout:
    """A bank's request to memory: the answer bears the number of the waiter."""
    return data.StructLayout({"upper": config.upper_bits, "waiter": config.waiter_bits})


def read(config: CacheConfig) -> data.StructLayout:
    """A read of a line from memory; its identifier is ``{bank, waiter}``."""
    return data.StructLayout(
        {"line": config.line_bits, "waiter": config.waiter_bits, "bank": config.bank_bits}
    )


def fill(config: CacheConfig) -> data.StructLayout:
    """The answer of memory."""
    return data.StructLayout(
        {
            "data": 8 * LINE_BYTES,
            "error": 1,
            "waiter": config.waiter_bits,
            "bank": config.bank_bits,
        }
    )


def answer(config: CacheConfig) -> data.StructLayout:
    """A bank's answer to a group of requests: the line, and each client's slot."""
    slots = data.ArrayLayout(config.slot_bits, config.clients)
    return data.StructLayout({"data": 8 * LINE_BYTES, "error": 1, "slot": slots})
