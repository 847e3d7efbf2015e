"""The memory available for a result, and the error before the host allocates a larger one."""

from pathlib import Path

from loopnest_hw.config import ADDRESS_BITS
from loopnest_hw.format import ENTRY_BYTES, WORD_BYTES

from .loops.plan import Plan

COPIES = 4
"""Approximate number of copies of a result on the host: in the chip's memory, as read back, and as
a tensor.
"""

VALUE_BYTES = 4
"""Bytes of a wide value."""

MEMINFO = Path("/proc/meminfo")


def available() -> int:
    """Return the bytes that a result may take in the chip's memory and on this machine."""
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:  # not every system has this file
        return 1 << ADDRESS_BITS
    free = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    return min([1 << ADDRESS_BITS, *(n // COPIES for n in free)])


def result_bytes(plan: Plan) -> int:
    """Return the bytes that a kernel's result is expected to take: its position table and entries,
    or all of its values.
    """
    result = plan.result
    if result.compressed:
        return result.fibers * ENTRY_BYTES + int(plan.expected.entries) * (VALUE_BYTES + WORD_BYTES)
    return result.fibers * result.span * VALUE_BYTES


def check_result(what: str, shape: tuple[int, ...], nbytes: int) -> None:
    """Refuse a result before the host allocates it.

    Raises
    ------
    ValueError
        If it takes more bytes than are available.
    """
    limit = available()
    if nbytes > limit:
        raise ValueError(refusal(what, shape, nbytes, limit))


def refusal(what: str, shape: tuple[int, ...], nbytes: int, limit: int) -> str:
    """Return the message for a result that is not computed."""
    return (
        f"{what}: this result of shape {shape} takes about {_written(nbytes)}: expected up to "
        f"{_written(limit)}, the available memory; use out= with compressed levels, or other "
        f"statements"
    )


def _written(nbytes: int) -> str:
    if nbytes < 1 << 20:
        return f"{nbytes} bytes"
    return f"{nbytes / (1 << 30):.1f} GB" if nbytes >= 1 << 30 else f"{nbytes / (1 << 20):.0f} MB"
