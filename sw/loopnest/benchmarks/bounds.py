"""Bounds on a kernel's cycles, at a memory latency of 4 or of 100 cycles."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

LATENCIES = (4, 100)
"""The latencies of the memory, in cycles, at which there are bounds."""

SLOWER = 1.3
"""Factor of the bounds at the longer latency."""

START = 300
"""Cycles allowed for a kernel's start and end, in addition to its work."""

SLOW_START = 1_000
"""The same at the longer latency, in addition."""


class Bound(ABC):
    """A bound on cycles."""

    @abstractmethod
    def cycles(self, latency: int, roof: int, measured: Mapping[str, int]) -> float | None:
        """Return the bound.

        Parameters
        ----------
        latency : int
            The memory's, in cycles.
        roof : int
            The kernel's PE roof, in cycles.
        measured : mapping of str to int
            Cycles of the cases that ran before, by name.

        Returns
        -------
        float or None
            None if there is no bound.
        """


@dataclass(frozen=True)
class Fixed(Bound):
    """A maximum number of cycles."""

    limit: float

    def cycles(self, latency: int, roof: int, measured: Mapping[str, int]) -> float | None:
        return {4: self.limit, 100: SLOWER * self.limit}.get(latency)


@dataclass(frozen=True)
class OfRoof(Bound):
    """The kernel must reach a share of its PE roof."""

    share: float

    def cycles(self, latency: int, roof: int, measured: Mapping[str, int]) -> float | None:
        limit = roof / self.share + START
        return {4: limit, 100: SLOWER * limit + SLOW_START}.get(latency)


@dataclass(frozen=True)
class AtShorter(Bound):
    """A maximum number of cycles, at the shorter latency."""

    limit: int

    def cycles(self, latency: int, roof: int, measured: Mapping[str, int]) -> float | None:
        return self.limit if latency == LATENCIES[0] else None


@dataclass(frozen=True)
class OfCase(Bound):
    """At most a share of another case's cycles, at the shorter latency."""

    case: str
    share: float

    def cycles(self, latency: int, roof: int, measured: Mapping[str, int]) -> float | None:
        if latency != LATENCIES[0] or self.case not in measured:
            return None
        return self.share * measured[self.case]


@dataclass(frozen=True)
class Unbounded(Bound):
    """No bound: a case that others are compared with."""

    def cycles(self, latency: int, roof: int, measured: Mapping[str, int]) -> float | None:
        return None


@dataclass(frozen=True)
class Below(Bound):
    """Fewer than a number of cycles, at every latency."""

    limit: int

    def cycles(self, latency: int, roof: int, measured: Mapping[str, int]) -> float | None:
        return self.limit - 1


@dataclass(frozen=True)
class AsFastest(Bound):
    """At most a share of the fastest of some cases, and fewer than ``limit`` if that is given."""

    cases: tuple[str, ...]
    share: float
    limit: int | None = None

    def cycles(self, latency: int, roof: int, measured: Mapping[str, int]) -> float | None:
        limits = [self.share * measured[case] for case in self.cases if case in measured]
        if self.limit is not None:
            limits.append(self.limit - 1)
        return min(limits, default=None)
