"""The chip with a fake PE and dispatcher, and a memory with delays and errors."""

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.chip.chip import Chip
from loopnest_hw.chip.overlap import REGIONS
from loopnest_hw.config import LINE_BYTES, make_config
from loopnest_hw.descriptor import descriptor_lines, pack
from loopnest_hw.registers import COUNTERS, OFFSETS, ErrorCode
from tb.chip.axi_lite import AxiLiteManager
from tb.chip.axi_memory import AxiMemory
from tb.chip.descriptors import register, sound
from tb.chip.fake_pe import FAKE_WHERE, Ending, FakeDispatcher, FakePE
from tb.harness import SIMULATORS, bench, run_bench

CONFIG = make_config("shrunk", reads_outstanding=16, watchdog=300)
LINES = descriptor_lines(CONFIG)
START, SOFT_RESET, INTERRUPT = 1, 2, 4
BUSY, DONE, FAILED, LATE = 1, 2, 4, 8
ALL_BYTES = (1 << 256) - 1
PATIENCE = 20_000
VALUES_REGION = REGIONS.index("values")


class Job:
    """One kernel for the fake PE, and the memory contents that it leaves."""

    def __init__(
        self, rng: random.Random, number: int, *, lines: int = 20, tokens: int = 4
    ) -> None:
        region = (number + 1) << 16
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
        }

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
        rest = memory.blank(last) >> 64 << 64
        assert memory.line(last) == rest | kernel << 32 | total


class System:
    """The chip with its memory and its host."""

    def __init__(self, dut: Any) -> None:
        case = CASES[bench.parameters["case"]]
        self.dut = dut
        self.rng = bench.rng()
        self.memory = AxiMemory(
            dut,
            "m_axi_",
            bench.rng(),
            latency=case["latency"],
            stall=case["stall"],
        )
        self.host = AxiLiteManager(dut, "s_axil_", bench.rng(), stall=case["stall"])
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


@cocotb.test()
async def lists(dut: Any) -> None:
    """Lists of one to four kernels; counters and results."""
    system = await begin(dut)
    for count in (1, 4, 2):
        jobs = [
            Job(system.rng, n, lines=system.rng.randrange(40), tokens=system.rng.randrange(1, 6))
            for n in range(count)
        ]
        system.load(jobs)
        await system.run()
        for job in jobs:
            job.check(system.memory)
        counters = {name: await system.read(name) for name, _ in COUNTERS}
        await system.expect(ErrorCode.NONE, 0, count)
        written = sum(job.lines + 1 for job in jobs)
        read = sum(job.lines + job.tokens for job in jobs)
        assert len(system.memory.writes) == written
        assert len(system.memory.reads) == read + count * LINES
        assert counters.pop("cycles") > read
        assert counters == dict.fromkeys(counters, 0) | {
            "multiplies": 5 * written,
            "leaf_steps": written,
            "lines_read": read,
            "lines_written": written,
            "passes": count,
            "write_busy": written,
        }
    assert system.memory.max_in_flight <= CONFIG.reads_outstanding
    if system.memory.latency[0] > CONFIG.reads_outstanding:
        assert system.memory.max_in_flight == CONFIG.reads_outstanding
    assert await system.read("identity")


@cocotb.test()
async def errors(dut: Any) -> None:
    """Every kind of error in the second kernel of three; a valid list runs after each."""
    system = await begin(dut)
    rng = system.rng
    second = system.kernels // 32 + LINES
    bad_line = rng.randrange(LINES)

    async def run(code: ErrorCode, where: int, job: Job, completed: int = 1) -> None:
        jobs = [Job(rng, 0), job, Job(rng, 2)]
        system.load(jobs)
        await system.run()
        await system.expect(code, where, completed)
        if completed:
            jobs[0].check(system.memory)
        assert all(line < 3 << 11 for line in system.memory.writes), "the third kernel ran"
        system.memory.read_errors.clear()
        system.memory.write_errors.clear()
        after = Job(rng, 5)
        system.load([after])
        await system.run()
        await system.expect(ErrorCode.NONE, 0, 1)
        after.check(system.memory)

    system.memory.read_errors |= {second + bad_line, second + LINES - 1}
    await run(ErrorCode.READ_ERROR, (second + bad_line) * 32, Job(rng, 1))

    for path, value in (("magic", 0x504E), ("leaf_mode", 3), ("result.values", 0x28010)):
        job = Job(rng, 1)
        job.kernel[path] = value
        await run(ErrorCode.BAD_DESCRIPTOR, 1, job)

    job = Job(rng, 1)
    job.kernel["operand.1.start"] = Ending.ERROR
    await run(ErrorCode.SLOTS, FAKE_WHERE, job)

    for ending, budget in ((Ending.HANG, 700), (Ending.STORM, 700), (Ending.DONE, 0)):
        job = Job(rng, 1)
        job.kernel |= {"operand.1.start": ending, "budget": budget}
        await run(ErrorCode.BUDGET, 1, job)

    job = Job(rng, 1)
    system.memory.read_errors.add(job.source // 32 + 7)
    await run(ErrorCode.READ_ERROR, 7, job)
    system.memory.read_errors.add(job.table // 32 + 2)
    await run(ErrorCode.READ_ERROR, job.table + 64, job)

    # a kernel reads where it writes, or where the previous one wrote
    for line in (0, 1):
        reader = Job(rng, 1, lines=1)
        reader.kernel["operand.0.values"] = reader.result + 0x4000 + line * LINE_BYTES
        await run(ErrorCode.OVERLAP, VALUES_REGION, reader)
    jobs = [Job(rng, 0), Job(rng, 1)]
    sound_place, system.kernels = system.kernels, jobs[0].result + 0x4000
    system.load(jobs)
    await system.run()
    await system.expect(ErrorCode.OVERLAP, VALUES_REGION, 1)
    jobs[0].check(system.memory)
    system.kernels = sound_place

    # errors of a write in the middle, and of the last write, after the PE is done
    for line in (3, job.lines):
        system.memory.write_errors.add(job.result // 32 + line)
        await run(ErrorCode.WRITE_ERROR, 0, job)
    system.memory.write_errors.add(Job(rng, 0).result // 32 + 20)
    await run(ErrorCode.WRITE_ERROR, 0, Job(rng, 1), completed=0)

    # ... also at the list's end
    job = Job(rng, 0)
    system.load([job])
    system.memory.write_errors = {job.result // 32 + job.lines}
    await system.run()
    await system.expect(ErrorCode.WRITE_ERROR, 0, 0)
    system.memory.write_errors.clear()

    system.kernels += 4
    await system.run()
    await system.expect(ErrorCode.BAD_DESCRIPTOR, 0, 0)
    assert not system.memory.writes[job.lines + 1 :]


@cocotb.test()
async def soft_reset(dut: Any) -> None:
    """A soft reset at any time ends the run; no transfer is cut off; the next run is correct."""
    system = await begin(dut)
    for delay in [*range(0, 60, 7), *(system.rng.randrange(60, 1000) for _ in range(6))]:
        storm = Job(system.rng, 1)
        storm.kernel["operand.1.start"] = Ending.STORM
        system.load([Job(system.rng, 0), storm])
        await system.start()
        await ClockCycles(dut.clk, delay + 1)
        assert await system.read("status") == BUSY
        await system.host.write(OFFSETS["control"], INTERRUPT | SOFT_RESET)
        for _ in range(PATIENCE):
            assert not int(dut.irq.value)
            if not await system.read("status") & BUSY:
                break
        assert system.memory.quiet
        assert await system.read("status") == 0
        job = Job(system.rng, 3)
        system.load([job])
        await system.run()
        job.check(system.memory)
        # and one while idle clears what the run left
        await system.host.write(OFFSETS["control"], INTERRUPT | SOFT_RESET)
        await ClockCycles(dut.clk, 4)
        assert await system.read("status") == 0
        assert not int(dut.irq.value)


@cocotb.test()
async def dead_memory(dut: Any) -> None:
    """A memory that stops answering at any time ends the run; late answers are dropped."""
    system = await begin(dut)
    memory, rng = system.memory, system.rng
    # no answer to the last write: at the list's end, while the next kernel waits for it, and after
    # an error, which stays the cause
    for count, ending, found in (
        (1, Ending.DONE, (ErrorCode.TIMEOUT, 1)),
        (2, Ending.DONE, (ErrorCode.TIMEOUT, 1)),
        (1, Ending.ERROR, (ErrorCode.SLOTS, FAKE_WHERE)),
    ):
        jobs = [Job(rng, n) for n in range(count)]
        jobs[0].kernel["operand.1.start"] = ending
        system.load(jobs)
        await system.start()
        while len(memory.writes) < jobs[0].lines:
            await RisingEdge(dut.clk)
        memory.mute_writes = True
        for _ in range(PATIENCE):
            await RisingEdge(dut.clk)
            if int(dut.irq.value):
                break
        await system.expect(*found, 0)
        memory.mute_writes = False
        await system.host.write(OFFSETS["control"], INTERRUPT | SOFT_RESET)
        await ClockCycles(dut.clk, 2 * memory.latency[1] + 50)
        assert memory.quiet and not await system.read("status")
    timeouts = 0
    for trial in range(12):
        jobs = [Job(rng, 0), Job(rng, 1)]
        system.load(jobs)
        await system.start()
        await ClockCycles(dut.clk, rng.choice((1, 5, 20, rng.randrange(200))))
        memory.mute = True
        late = rng.random() < 0.5
        if trial % 3 == 0:  # a soft reset detects the timeout itself
            await system.host.write(OFFSETS["control"], INTERRUPT | SOFT_RESET)
            await ClockCycles(dut.clk, 2 * CONFIG.watchdog + 50)
            assert not await system.read("status") & BUSY
            memory.mute = late
        else:
            for _ in range(PATIENCE):
                await RisingEdge(dut.clk)
                if int(dut.irq.value):
                    break
            else:
                raise AssertionError("no interrupt")
            code = await system.read("error")
            assert code in (ErrorCode.NONE, ErrorCode.TIMEOUT)
            timeouts += code
            if code and rng.random() < 0.5:  # no run before the memory answers or is forgotten
                await system.host.write(OFFSETS["status"], DONE)
                await system.start()
                await ClockCycles(dut.clk, 20)
                assert await system.read("error") == ErrorCode.TIMEOUT
                assert await system.read("status") == DONE | FAILED
            memory.mute = late
            await system.host.write(OFFSETS["control"], INTERRUPT | SOFT_RESET)
            await ClockCycles(dut.clk, 5)
            assert await system.read("status") & ~LATE == 0
        # abandoned requests are still outstanding, or the memory still does not answer
        if memory.mute:
            system.load([Job(rng, 4)])
            await system.host.write(OFFSETS["status"], DONE)
            await system.start()
            await ClockCycles(dut.clk, CONFIG.watchdog + 80)
            assert await system.read("error") == ErrorCode.TIMEOUT
            await system.host.write(OFFSETS["control"], INTERRUPT | SOFT_RESET)
            memory.mute = False
            for _ in range(PATIENCE):
                await RisingEdge(dut.clk)
                if memory.quiet and not await system.read("status"):
                    break
            else:
                raise AssertionError("the chip does not come back")
        job = Job(rng, 4)
        system.load([job])
        await system.start()
        await ClockCycles(dut.clk, rng.randrange(40))
        memory.mute = False
        await system.wait()
        job.check(memory)
        await system.expect(ErrorCode.NONE, 0, 1)
    assert timeouts > 3 * ErrorCode.TIMEOUT


@cocotb.test()
async def rates(dut: Any) -> None:
    """With a latency of a few cycles: descriptors at one line per cycle, data at one line per cycle
    in each direction.
    """
    if bench.parameters["case"] != "near":
        return
    system = await begin(dut)
    job = Job(system.rng, 0, lines=400, tokens=1)
    system.load([job])
    await system.run()
    job.check(system.memory)
    memory = system.memory
    assert memory.read_cycles[LINES - 1] - memory.read_cycles[0] == LINES - 1
    assert memory.write_cycles[-2] - memory.write_cycles[0] <= 405
    cycles = await system.read("cycles")
    assert cycles < 400 + LINES + 40, cycles


CASES: dict[str, dict[str, Any]] = {
    "near": {"latency": (1, 1), "stall": 0.0},
    "far": {"latency": (90, 110), "stall": 0.0},
    "rough": {"latency": (1, 40), "stall": 0.4},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_chip(simulator: str, case: str) -> None:
    """With a fake PE and dispatcher: memories of short and long latency, and one that stalls."""
    run_bench(
        Chip(CONFIG, pe=FakePE(CONFIG), dispatcher=FakeDispatcher(CONFIG)),
        module=__name__,
        simulator=simulator,
        parameters={"case": case},
    )
