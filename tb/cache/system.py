"""What surrounds the cache in its benches: clients and memory ports."""

from collections.abc import Callable
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.cache.cache import events
from loopnest_hw.cache.geometry import CacheConfig, fill, read, reply, request
from tb.cache.lines import Lines, Memory
from tb.harness import bench
from tb.streams import decode, encode


class System:
    """Clients that request lines, and memory ports, around the cache.

    Parameters
    ----------
    next_line : callable
        Returns a client's next line, or None.
    latency, errors
        As `Memory`.
    pause : float
        Probability that a client waits, and that a memory is not ready, in a cycle.
    checked : bool
        Compare the data (slow).
    """

    def __init__(
        self,
        dut: Any,
        next_line: Callable[[int], int | None],
        *,
        latency: tuple[int, int],
        errors: float = 0.0,
        pause: float = 0.0,
        checked: bool = True,
    ) -> None:
        self.dut = dut
        self.config = CacheConfig(**bench.parameters["config"])
        self._rng = bench.rng()
        self.next_line = next_line
        self._pause = pause
        self._checked = checked
        self.content = Lines()
        self.memory = [
            Memory(self.content, bench.rng(), latency=latency, errors=errors)
            for _ in range(self.config.ports)
        ]
        clients = range(self.config.clients)
        self._free = [list(range(1 << self.config.slot_bits)) for _ in clients]
        self._offered: list[dict[str, int] | None] = [None for _ in clients]
        self.waiting: list[dict[int, tuple[int, int]]] = [{} for _ in clients]
        self.answers = [0 for _ in clients]
        self.errors = 0
        self.longest, self.shortest = 0, 1 << 30
        self.cycle = 0
        self.events = dict.fromkeys(events(self.config).members, 0)
        self.quiet = False
        self.ahead: list[list[int]] = [[] for _ in range(self.config.ports)]
        """Lines to prefetch of each port."""
        self.prefetched = 0
        self._handles = {
            name: getattr(dut, name)
            for name in dir(dut)
            if name.startswith(("request__", "reply__", "prefetch__", "memory__", "fill__"))
        }
        self._data: list[int] = []
        cocotb.start_soon(self._run())

    def _get(self, name: str) -> int:
        return int(self._handles[name].value)

    def _set(self, name: str, value: int) -> None:
        self._handles[name].value = value

    async def _run(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            self.cycle += 1
            if int(self.dut.rst.value) or int(self.dut.flush.value):
                continue
            counted = decode(events(self.config), int(self.dut.events.value))
            for name, count in counted.items():
                self.events[name] += count
            for c in range(self.config.clients):
                self._client(c)
            for port in range(self.config.ports):
                self._port(port)
                self._prefetch(port)

    def _client(self, c: int) -> None:
        if self._get(f"reply__{c}__valid"):
            given = decode(reply(self.config), self._get(f"reply__{c}__payload"))
            assert given["slot"] in self.waiting[c], f"client {c}: {given['slot']} has no request"
            line, since = self.waiting[c].pop(given["slot"])
            self._free[c].append(given["slot"])
            self.answers[c] += 1
            self.longest = max(self.longest, self.cycle - since)
            self.shortest = min(self.shortest, self.cycle - since)
            if given["error"]:
                self.errors += 1
                port = self.memory[line % self.config.ports]
                assert port.failed.get(line, -1000) >= since - 100, "an error was kept"
            elif self._checked:
                self.content.check(line, given["data"])
        offered = self._offered[c]
        if offered is not None and self._get(f"request__{c}__ready"):
            line = offered["line"]
            self.waiting[c][offered["slot"]] = line, self.cycle
            offered = self._offered[c] = None
        if offered is None and not self.quiet and self._free[c]:
            line = None if self._rng.random() < self._pause else self.next_line(c)
            if line is not None:
                slot = self._free[c].pop(0)
                offered = self._offered[c] = {"line": line, "slot": slot}
                self._set(f"request__{c}__payload", encode(request(self.config), offered))
        self._set(f"request__{c}__valid", int(offered is not None))

    def _port(self, port: int) -> None:
        memory = self.memory[port]
        if self._get(f"memory__{port}__valid") and self._get(f"memory__{port}__ready"):
            item = decode(read(self.config), self._get(f"memory__{port}__payload"))
            assert item["line"] % self.config.ports == port
            memory.read(
                self.cycle, item["bank"] << self.config.waiter_bits | item["waiter"], item["line"]
            )
        # 256 reads may be in flight, in all
        room = sum(m.in_flight for m in self.memory) < 256
        self._set(f"memory__{port}__ready", int(room and self._rng.random() >= self._pause))
        came = memory.answer(self.cycle)
        self._set(f"fill__{port}__valid", int(came is not None))
        if came is not None:
            key, line, error = came
            bank, waiter = divmod(key, 1 << self.config.waiter_bits)
            value = {"data": line, "error": int(error), "waiter": waiter, "bank": bank}
            self._set(f"fill__{port}__payload", encode(fill(self.config), value))

    def _prefetch(self, port: int) -> None:
        """Offer the port's next line of `ahead`, often of those that clients want."""
        if self._get(f"prefetch__{port}__valid") and self._get(f"prefetch__{port}__ready"):
            self.prefetched += 1
            self.ahead[port].pop(0)
        self._set(f"prefetch__{port}__valid", int(bool(self.ahead[port])))
        if self.ahead[port]:
            self._set(f"prefetch__{port}__payload", self.ahead[port][0])

    async def drain(self) -> None:
        """Request nothing more, and wait until all is answered."""
        self.quiet = True
        start = self.cycle
        while (
            any(self.waiting)
            or any(self._offered)
            or any(self.ahead)
            or not all(m.quiet for m in self.memory)
        ):
            await RisingEdge(self.dut.clk)
            assert self.cycle < start + 3000, f"not answered: {self.waiting}"
        await ClockCycles(self.dut.clk, 5)
        self.quiet = False

    async def flush(self) -> None:
        """Flush at once; meanwhile the host writes all lines."""
        self.dut.flush.value = 1
        await ClockCycles(self.dut.clk, 2)
        for c in range(self.config.clients):
            self.waiting[c].clear()
            self._offered[c] = None
            self._free[c] = list(range(1 << self.config.slot_bits))
            self._set(f"request__{c}__valid", 0)
        for port, memory in enumerate(self.memory):
            memory.forget()
            self.ahead[port].clear()
            self._set(f"prefetch__{port}__valid", 0)
            self._set(f"fill__{port}__valid", 0)
        self.content.write()
        await RisingEdge(self.dut.clk)
        self.dut.flush.value = 0
