"""The memory that a result may take, and the error before the host allocates a larger one.

Which kernels compute a product depends on `capacity`, which is always the same on one machine:
another choice may have other last bits. What is free at the moment only refuses (`check_result`).
"""

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


def capacity() -> int:
    """Return the bytes that a result may take: what the chip addresses, and the same share of this
    machine's memory whatever else it holds, so that plans do not depend on that.
    """
    return min(1 << ADDRESS_BITS, _meminfo("MemTotal") // COPIES)


def available() -> int:
    """Return the bytes of `capacity` that are free now."""
    return min(capacity(), _meminfo("MemAvailable") // COPIES)


def _meminfo(name: str) -> int:
    """Return a figure of this machine's memory in bytes; more than any result takes on a system
    that does not have it.
    """
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        lines = []
    found = [int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:")]
    return found[0] if found else COPIES << ADDRESS_BITS


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
        f"{what}: this result of shape {shape} takes about {written(nbytes)}: expected up to "
        f"{written(limit)}, the available memory; use out= with compressed levels, or other "
        f"statements"
    )


def written(nbytes: int) -> str:
    """Return a number of bytes in words."""
    if nbytes < 1 << 20:
        return f"{nbytes} bytes"
    return f"{nbytes / (1 << 30):.1f} GB" if nbytes >= 1 << 30 else f"{nbytes / (1 << 20):.0f} MB"
