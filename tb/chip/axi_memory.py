"""A memory behind AXI4 for cocotb tests, with delays, reordering, back-pressure and errors."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from loopnest_hw.config import LINE_BYTES

OKAY, SLAVE_ERROR, DECODE_ERROR = 0, 2, 3
INCREMENTING = 1
LINE_SIZE = 5


@dataclass
class _Answer:
    due: int
    identifier: int
    payload: Mapping[str, int] = field(default_factory=dict)


class AxiMemory:
    """Answers single-beat line reads and writes, whichever of the two the device has.

    It asserts AXI4's rules for a manager (valid and the payload hold, no read identifier is in
    flight twice) and that only whole lines are requested.

    Parameters
    ----------
    dut : handle
        Has the ports ``{prefix}{signal}``.
    prefix : str
    rng : random.Random
    latency : tuple of int
        Minimum and maximum cycles from a request to its answer; read answers may overtake each
        other.
    stall : float
        Probability that a channel is not ready, or does not answer, in a cycle.
    refuses : bool
        Whether the device may not be ready for a read's answer. It is always ready for a write's.

    Attributes
    ----------
    lines : dict
        Contents by line number; a missing line is a `blank` one.
    read_errors, write_errors : set
        Line numbers whose accesses fail.
    reads, writes : list
        Line numbers in order of the requests (reads) and of the completed transfers (writes).
    max_in_flight : int
        Maximum number of reads in flight.
    refused : int
        Cycles in which a read's answer waited for the device.
    mute : bool
        It accepts and answers nothing.
    mute_writes : bool
        It answers no writes.
    """

    def __init__(
        self,
        dut: Any,
        prefix: str,
        rng: random.Random,
        *,
        latency: tuple[int, int] = (1, 1),
        stall: float = 0.0,
        refuses: bool = False,
    ) -> None:
        self._dut = dut
        self._prefix = prefix
        self._rng = rng
        self.latency = latency
        self.stall = stall
        self.refuses = refuses
        self.lines: dict[int, int] = {}
        self.read_errors: set[int] = set()
        self.write_errors: set[int] = set()
        self.reads: list[int] = []
        self.read_cycles: list[int] = []
        self.writes: list[int] = []
        self.write_cycles: list[int] = []
        self.max_in_flight = 0
        self.refused = 0
        self.mute = False
        self.mute_writes = False
        self.cycle = 0
        self._pending_reads: dict[int, _Answer] = {}
        self._pending_addresses: list[tuple[int, int]] = []
        self._pending_data: list[tuple[int, int]] = []
        self._responses: list[_Answer] = []
        cocotb.start_soon(self._run())

    @staticmethod
    def blank(line: int) -> int:
        """Return the contents of a line that was never written: each word is its own address."""
        words = (line * LINE_BYTES + 4 * w for w in range(LINE_BYTES // 4))
        return sum((word ^ 0x5A5A0000) << 32 * w for w, word in enumerate(words))

    def line(self, line: int) -> int:
        """Return a line's content."""
        return self.lines.get(line, self.blank(line))

    @property
    def quiet(self) -> bool:
        """Whether nothing is in flight, and no write address or data waits for the other."""
        return not (
            self._pending_reads or self._pending_addresses or self._pending_data or self._responses
        )

    def _port(self, name: str) -> Any:
        return getattr(self._dut, self._prefix + name)

    def _value(self, name: str) -> int:
        return int(self._port(name).value)

    async def _run(self) -> None:
        reads, writes = (hasattr(self._dut, self._prefix + n) for n in ("arvalid", "awvalid"))
        request_names: dict[str, tuple[str, ...]] = {}
        if reads:
            request_names["ar"] = ("arid", "araddr", "arlen", "arsize", "arburst")
        if writes:
            request_names["aw"] = ("awid", "awaddr", "awlen", "awsize", "awburst")
            request_names["w"] = ("wdata", "wstrb", "wlast")
        held: dict[str, tuple[int, ...]] = {}
        await RisingEdge(self._dut.clk)
        while int(self._dut.rst.value):
            await RisingEdge(self._dut.clk)
        while True:
            self.cycle += 1
            for channel, names in request_names.items():
                if not self._value(f"{channel}valid"):
                    assert channel not in held, f"{channel}valid fell before the transfer"
                    continue
                payload = tuple(self._value(name) for name in names)
                assert held.get(channel, payload) == payload, f"{channel}: payload changed"
                held[channel] = payload
                if self._value(f"{channel}ready"):
                    del held[channel]
                    getattr(self, f"_take_{channel}")(*payload)
            self._pair_writes()
            if reads:
                self._answer_read()
            if writes:
                self._answer_write()
            for channel in request_names:
                takes = not self.mute and self._rng.random() >= self.stall
                self._port(f"{channel}ready").value = takes
            await RisingEdge(self._dut.clk)

    def _due(self) -> int:
        return self.cycle + self._rng.randint(*self.latency)

    def _check_address(self, address: int, length: int, size: int, burst: int) -> int:
        assert address % LINE_BYTES == 0, f"address {address:#x} is not a line's"
        assert (length, size, burst) == (0, LINE_SIZE, INCREMENTING)
        return address // LINE_BYTES

    def _take_ar(self, identifier: int, address: int, length: int, size: int, burst: int) -> None:
        line = self._check_address(address, length, size, burst)
        assert identifier not in self._pending_reads, f"read {identifier:#x} twice"
        failed = line in self.read_errors
        payload = {
            "rdata": self._rng.getrandbits(8 * LINE_BYTES) if failed else self.line(line),
            "rresp": self._rng.choice((SLAVE_ERROR, DECODE_ERROR)) if failed else OKAY,
            "rlast": 1,
        }
        self._pending_reads[identifier] = _Answer(self._due(), identifier, payload)
        self.reads.append(line)
        self.read_cycles.append(self.cycle)
        self.max_in_flight = max(self.max_in_flight, len(self._pending_reads))

    def _take_aw(self, identifier: int, address: int, length: int, size: int, burst: int) -> None:
        self._pending_addresses.append(
            (identifier, self._check_address(address, length, size, burst))
        )

    def _take_w(self, value: int, strobe: int, last: int) -> None:
        assert last
        self._pending_data.append((value, strobe))

    def _pair_writes(self) -> None:
        while self._pending_addresses and self._pending_data:
            identifier, line = self._pending_addresses.pop(0)
            value, strobe = self._pending_data.pop(0)
            mask = sum(0xFF << 8 * b for b in range(LINE_BYTES) if strobe >> b & 1)
            failed = line in self.write_errors
            if not failed:
                self.lines[line] = self.line(line) & ~mask | value & mask
            response = self._rng.choice((SLAVE_ERROR, DECODE_ERROR)) if failed else OKAY
            self._responses.append(_Answer(self._due(), identifier, {"bresp": response}))
            self.writes.append(line)
            self.write_cycles.append(self.cycle)

    def _answer(self, channel: str, answer: _Answer | None) -> None:
        self._port(f"{channel}valid").value = int(answer is not None)
        if answer is not None:
            self._port(f"{channel}id").value = answer.identifier
            for name, value in answer.payload.items():
                self._port(name).value = value

    def _answer_read(self) -> None:
        """Answer one read that is due."""
        if not self._value("rready"):
            assert self.refuses
            if self._value("rvalid"):
                self.refused += 1
                return
        due = [a for a in self._pending_reads.values() if a.due <= self.cycle]
        answers = due and not self.mute and self._rng.random() >= self.stall
        chosen = self._rng.choice(due) if answers else None
        if chosen is not None:
            del self._pending_reads[chosen.identifier]
        self._answer("r", chosen)

    def _answer_write(self) -> None:
        """Answer the oldest write if it is due; the chip always takes it."""
        assert self._value("bready")
        mute = self.mute or self.mute_writes
        ready = not mute and self._responses and self._responses[0].due <= self.cycle
        chosen = self._responses.pop(0) if ready and self._rng.random() >= self.stall else None
        self._answer("b", chosen)
