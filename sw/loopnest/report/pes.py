"""What a chip of several PEs counts besides: its cache, and the work of each PE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loopnest_hw.registers import CACHE_COUNTERS, PE_COUNTERS, pe_counter


def cache_counts(values: Mapping[str, int]) -> dict[str, int] | None:
    """Return the counts of the cache by name; None if there are none.

    Every one of the ``requests`` is one of the ``hits`` or of the ``misses``, which are the reads
    of memory. Of the hits, ``joined`` waited for a line on its way, and ``merged`` went together
    with another client's request of the same line. Lines that prefetchers request count like those
    of a client.
    """
    if "cache_requests" not in values:
        return None
    counted = {name.removeprefix("cache_"): values[name] for name, _ in CACHE_COUNTERS}
    lookups = counted["hits"] + counted["misses"] + counted["joined"]
    return {
        "requests": counted["requests"],
        "hits": counted["requests"] - counted["misses"],
        "misses": counted["misses"],
        "joined": counted["joined"],
        "merged": counted["requests"] - lookups,
        "waits": counted["waits"],
        "conflicts": counted["conflicts"],
    }


def pe_counts(values: Mapping[str, int], pes: int) -> tuple[dict[str, int], ...] | None:
    """Return the counts of each PE (`registers.PE_COUNTERS`); None if there are none."""
    if pe_counter(0, "leaf_busy") not in values:
        return None
    return tuple(
        {name: values[pe_counter(pe, name)] for name, _ in PE_COUNTERS} for pe in range(pes)
    )


def added(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums of counts by name."""
    return {name: sum(count[name] for count in counts) for name in counts[0]}


@dataclass(frozen=True)
class Balance:
    """How the PEs' work ends.

    Attributes
    ----------
    last : int
        The PE that ends last.
    lost : float
        Cycles from a PE's last step to the last PE's; the average over all PEs.
    alone : int
        Those of the PE that ends next to last: the last one works alone.
    work : float
        Busy cycles of the last PE's leaf, as a multiple of the average.
    """

    last: int
    lost: float
    alone: int
    work: float

    @property
    def is_one(self) -> bool:
        """Most of what is lost is lost while one PE works alone."""
        return 2 * self.alone >= self.lost


def balance(values: Mapping[str, int], pes: int) -> Balance | None:
    """Return how the work of PEs that share a nest ends; None if that is not counted, or nothing
    was to do.
    """
    counts = pe_counts(values, pes)
    if pes == 1 or counts is None:
        return None
    ends = [count["last_step"] for count in counts]
    busy = [count["leaf_busy"] for count in counts]
    if not any(ends) or not any(busy):
        return None
    last = max(range(pes), key=lambda pe: ends[pe])
    return Balance(
        last=last,
        lost=ends[last] - sum(ends) / pes,
        alone=ends[last] - max(end for pe, end in enumerate(ends) if pe != last),
        work=busy[last] * pes / sum(busy),
    )
