"""The memory behind the cache in its benches, which the host writes at each flush."""

import random

from loopnest_hw.config import LINE_BYTES


def content(line: int, version: int) -> int:
    """Return the data of a line after this number of writes."""
    return random.Random(line << 32 | version).getrandbits(8 * LINE_BYTES)


class Lines:
    """The lines of memory, which are all written at once."""

    def __init__(self) -> None:
        self._version = 0

    def write(self) -> None:
        """Write all lines."""
        self._version += 1

    def data(self, line: int) -> int:
        """Return the line."""
        return content(line, self._version)

    def check(self, line: int, data: int) -> None:
        """Assert that the data is the line."""
        if data != self.data(line):
            stale = data in {content(line, version) for version in range(self._version)}
            raise AssertionError(f"line {line}: {'stale' if stale else 'wrong'}, {data:#x}")


class Memory:
    """Answers reads late and in any order.

    Parameters
    ----------
    latency : (int, int)
        Smallest and largest number of cycles from a request to its answer.
    errors : float
        Probability of an error.
    """

    def __init__(
        self, lines: Lines, rng: random.Random, *, latency: tuple[int, int], errors: float = 0.0
    ) -> None:
        self._lines = lines
        self._rng = rng
        self._latency = latency
        self._errors = errors
        self._waiting: list[tuple[int, int, int]] = []
        self.reads = 0
        self.max_in_flight = 0
        self.failed: dict[int, int] = {}
        """The cycle of the last error of each line that had one."""

    @property
    def quiet(self) -> bool:
        """Whether every read was answered."""
        return not self._waiting

    @property
    def in_flight(self) -> int:
        """The number of reads that were not answered yet."""
        return len(self._waiting)

    def read(self, cycle: int, key: int, line: int) -> None:
        """Take a read; no other one in flight may have this key."""
        assert all(other != key for _, other, _ in self._waiting), f"key {key} is in use"
        due = cycle + self._rng.randint(*self._latency)
        self._waiting.append((due, key, line))
        self.reads += 1
        self.max_in_flight = max(self.max_in_flight, len(self._waiting))

    def answer(self, cycle: int) -> tuple[int, int, bool] | None:
        """Return the answer of this cycle: key, data, and whether it is an error."""
        due = [item for item in self._waiting if item[0] <= cycle]
        if not due:
            return None
        item = self._rng.choice(due)
        self._waiting.remove(item)
        _, key, line = item
        if self._rng.random() < self._errors:
            self.failed[line] = cycle
            return key, self._rng.getrandbits(8 * LINE_BYTES), True
        return key, self._lines.data(line), False

    def forget(self) -> None:
        """Drop what is in flight."""
        self._waiting.clear()
