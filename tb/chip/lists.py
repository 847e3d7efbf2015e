"""Lists of kernels for the chip with a fake PE, and the system around it."""

import random
from typing import Any

import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.config import make_config
from loopnest_hw.descriptor import descriptor_lines, pack
from loopnest_hw.registers import COUNTERS, OFFSETS, ErrorCode, snapshot_lines
from tb.chip.axi_lite import AxiLiteManager
from tb.chip.axi_memory import AxiMemory
from tb.chip.descriptors import register, sound
from tb.chip.fake_pe import Ending
from tb.harness import bench

CONFIG = make_config("shrunk", reads_outstanding=16, watchdog=300)
LINES = descriptor_lines(CONFIG)
SNAPSHOT = snapshot_lines(CONFIG.pes)
START, SOFT_RESET, INTERRUPT = 1, 2, 4
BUSY, DONE, FAILED, LATE = 1, 2, 4, 8
ALL_BYTES = (1 << 256) - 1
PATIENCE = 20_000


class Job:
    """One kernel for the fake PE, and the memory contents that it leaves.

    With ``fill``, its region is initialised and ends that number of bytes after the kernel's last
    line; with ``counted``, the counters are written to memory.
    """

    def __init__(
        self,
        rng: random.Random,
        number: int,
        *,
        lines: int = 20,
        tokens: int = 4,
        fill: int | None = None,
        counted: bool = False,
    ) -> None:
        region = (number + 1) << 16
        self.fill = fill
        self.counters = (region | 0x2000) if counted else 0
        self.lines = lines
        self.tokens = tokens
        self.table = region | rng.randrange(64) * 32
        self.source = region | 0x4000
        self.result = region | 0x8000
        self.kernel = sound(CONFIG, rng) | {
            "row.0.size": tokens,
            "dispatch.0.table": self.table,
            "operand.0.start": lines,
            "operand.0.values": self.source,
            "operand.1.start": Ending.DONE,
            "result.compressed": 0,
            "result.values": self.result,
            "result.values_end": self.result + 0x8000,
            "result.initialise": fill is not None,
            "counters": self.counters,
        }
        if fill is not None:
            self.kernel["result.values_end"] = self.result + 32 * (lines + 1) + fill

    @property
    def written(self) -> int:
        """Lines that it writes, without the counters."""
        filled = 0 if self.fill is None else self.lines + 1 + -(-self.fill // 32)
        return filled + self.lines + 1

    def check(self, memory: AxiMemory) -> None:
        """Assert that the kernel ran to its end and wrote the expected lines."""
        for n in range(self.lines):
            expected = memory.blank(self.source // 32 + n) ^ ALL_BYTES
            assert memory.line(self.result // 32 + n) == expected
        total = sum(memory.blank(self.table // 32 + n) & 0xFFFF for n in range(self.tokens))
        kernel = register(CONFIG, self.kernel)
        while kernel >> 32:
            kernel = kernel >> 32 ^ kernel & 0xFFFFFFFF
        last = self.result // 32 + self.lines
        rest = self._before(memory, last) >> 64 << 64
        assert memory.line(last) == rest | kernel << 32 | total
        for line in range(last + 1, last + 3 + (self.fill or 0) // 32):
            assert memory.line(line) == self._before(memory, line)

    def _before(self, memory: AxiMemory, line: int) -> int:
        """Return what a line of the result's region holds without the PE's writes."""
        blank = memory.blank(line)
        if self.fill is None:
            return blank
        inside = min(max(8 * (self.kernel["result.values_end"] - 32 * line), 0), 256)
        word = self.kernel["result.background"]
        filled = sum(word << 32 * n for n in range(8)) & ((1 << inside) - 1)
        return blank >> inside << inside | filled

    def snapshot(self, memory: AxiMemory) -> dict[str, int]:
        """Return the counters that it left in memory."""
        lines = [memory.line(self.counters // 32 + n) for n in range(SNAPSHOT)]
        raw = b"".join(line.to_bytes(32, "little") for line in lines)
        values = np.frombuffer(raw, "<u8")
        assert not values[len(COUNTERS) :].any()
        return {name: int(v) for (name, _), v in zip(COUNTERS, values, strict=False)}


class System:
    """The chip with its memory and its host."""

    def __init__(self, dut: Any) -> None:
        parameters = bench.parameters
        self.dut = dut
        self.rng = bench.rng()
        self.memory = AxiMemory(
            dut,
            "m_axi_",
            bench.rng(),
            latency=tuple(parameters["latency"]),
            stall=parameters["stall"],
        )
        self.host = AxiLiteManager(dut, "s_axil_", bench.rng(), stall=parameters["stall"])
        self.kernels = 0x100

    def load(self, jobs: list[Job]) -> None:
        """Load the jobs' descriptors into memory, with `last` set in the last one, and clear the
        rest.
        """
        self.memory.lines.clear()
        self.memory.writes.clear()
        self.memory.reads.clear()
        jobs[-1].kernel["last"] = 1
        for number, job in enumerate(jobs):
            words = pack(CONFIG, job.kernel)
            for n in range(LINES):
                line = self.kernels // 32 + number * LINES + n
                self.memory.lines[line] = int.from_bytes(
                    words[8 * n : 8 * n + 8].tobytes(), "little"
                )

    async def read(self, name: str) -> int:
        """Read a register by name."""
        value, response = await self.host.read(OFFSETS[name])
        assert response == 0
        return value

    async def start(self) -> None:
        """Start the list at ``kernels``."""
        await self.host.write(OFFSETS["kernels"], self.kernels)
        await self.host.write(OFFSETS["control"], START | INTERRUPT)

    async def wait(self) -> None:
        """Wait for the interrupt; the bus must be quiet then."""
        for _ in range(PATIENCE):
            await RisingEdge(self.dut.clk)
            if int(self.dut.irq.value):
                break
        else:
            raise AssertionError("no interrupt")
        assert self.memory.quiet
        accesses = len(self.memory.reads), len(self.memory.writes)
        await ClockCycles(self.dut.clk, 10)
        assert accesses == (len(self.memory.reads), len(self.memory.writes))

    async def run(self) -> None:
        """Run the list to its interrupt."""
        await self.start()
        await self.wait()

    async def expect(self, code: ErrorCode, where: int, completed: int) -> None:
        """Check the registers after a run, and clear ``done``."""
        found = [await self.read(name) for name in ("error", "error_where", "kernel_index")]
        assert found == [code, where, completed], (ErrorCode(found[0]), found)
        status = DONE | (FAILED if code else 0)
        assert await self.read("status") == status
        await self.host.write(OFFSETS["status"], DONE)
        assert await self.read("status") == status & ~DONE
        await ClockCycles(self.dut.clk, 3)
        assert not int(self.dut.irq.value)


async def begin(dut: Any) -> System:
    """Reset the chip, and return it with its memory and host."""
    system = System(dut)
    await bench.start(dut)
    return system
