"""The chip's buses: AXI4-Lite for control, AXI4 for memory, with their standard signal names.

Signatures are written from the manager's side: what it drives is `Out`.
"""

from enum import Enum, auto

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member, Out

from ..cache.geometry import CacheConfig
from ..config import ADDRESS_BITS, LINE_BYTES, LINE_SHIFT, ChipConfig

CONTROL_ADDRESS_BITS = 12
"""Bits of a control register's byte address."""

CONTROL_DATA_BITS = 32

CLIENT_BITS = 2
"""Bits of the memory port's client number, part of a read's identifier."""

OKAY = 0b00
SLAVE_ERROR = 0b10
"""Response codes; bit 1 alone tells an error (SLVERR, DECERR) from none (OKAY, EXOKAY)."""

LINE_SIZE = LINE_SHIFT
"""The `axsize` of a whole line."""

INCREMENTING = 0b01
"""The `axburst` of every burst (of one beat)."""

AXI_LITE = wiring.Signature(
    {
        "awaddr": Out(CONTROL_ADDRESS_BITS),
        "awvalid": Out(1),
        "awready": In(1),
        "wdata": Out(CONTROL_DATA_BITS),
        "wstrb": Out(CONTROL_DATA_BITS // 8),
        "wvalid": Out(1),
        "wready": In(1),
        "bresp": In(2),
        "bvalid": In(1),
        "bready": Out(1),
        "araddr": Out(CONTROL_ADDRESS_BITS),
        "arvalid": Out(1),
        "arready": In(1),
        "rdata": In(CONTROL_DATA_BITS),
        "rresp": In(2),
        "rvalid": In(1),
        "rready": Out(1),
    }
)
"""AXI4-Lite, without the protection bits, which the chip does not use."""


class ReadClient(Enum):
    """A unit that reads through the memory port."""

    PE = auto()
    DISPATCHER = auto()
    CACHE = auto()
    COMMAND = auto()


def read_clients(config: ChipConfig) -> tuple[ReadClient, ...]:
    """Return the clients of each memory port, by number; the command processor is the last.

    Where there is a cache, the PEs and their dispatcher read through it.
    """
    if config.cached:
        return ReadClient.CACHE, ReadClient.COMMAND
    return ReadClient.PE, ReadClient.DISPATCHER, ReadClient.COMMAND


def read_slot_bits(config: ChipConfig) -> int:
    """Return the bits of a slot at a memory port: a line of a pool, or the cache's ``{bank,
    waiter}``.
    """
    if not config.cached:
        return config.pool_bits
    cache = CacheConfig.of(config)
    return max(config.pool_bits, cache.bank_bits + cache.waiter_bits)


def identifier_bits(config: ChipConfig) -> int:
    """Return the bits of an AXI4 identifier: a read's generation, its client's number, its slot."""
    return 1 + CLIENT_BITS + read_slot_bits(config)


def axi_write(config: ChipConfig) -> wiring.Signature:
    """Return the write channels AW, W and B of the memory bus."""
    return wiring.Signature(
        {
            "awid": Out(identifier_bits(config)),
            "awaddr": Out(ADDRESS_BITS),
            "awlen": Out(8),
            "awsize": Out(3),
            "awburst": Out(2),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(8 * LINE_BYTES),
            "wstrb": Out(LINE_BYTES),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bid": In(identifier_bits(config)),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
        }
    )


def axi_read(config: ChipConfig) -> wiring.Signature:
    """Return the read channels AR and R of the memory bus."""
    return wiring.Signature(
        {
            "arid": Out(identifier_bits(config)),
            "araddr": Out(ADDRESS_BITS),
            "arlen": Out(8),
            "arsize": Out(3),
            "arburst": Out(2),
            "arvalid": Out(1),
            "arready": In(1),
            "rid": In(identifier_bits(config)),
            "rdata": In(8 * LINE_BYTES),
            "rresp": In(2),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


def memory_prefixes(config: ChipConfig) -> tuple[str, ...]:
    """Return the names of the memory buses, by port."""
    return ("m_axi",) if config.memory_ports == 1 else ("m0_axi", "m1_axi")


def memory_ports(config: ChipConfig) -> dict[str, Member]:
    """Return the memory buses' signals as single members, ``m_axi_awid`` and so on."""
    return {
        f"{prefix}_{name}": member
        for prefix in memory_prefixes(config)
        for signature in (axi_write(config), axi_read(config))
        for name, member in signature.members.items()
    }


def subordinate_ports(prefix: str, signature: wiring.Signature) -> dict[str, Member]:
    """Return the subordinate's side of a bus as single members, named ``prefix_signal``."""
    return {f"{prefix}_{name}": member.flip() for name, member in signature.members.items()}
