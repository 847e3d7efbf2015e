"""The chip with a fake PE and dispatcher, and a memory with delays and errors."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.chip.chip import Chip
from loopnest_hw.chip.overlap import REGIONS
from loopnest_hw.config import LINE_BYTES
from loopnest_hw.registers import COUNTERS, OFFSETS, ErrorCode
from tb.chip.fake_pe import FAKE_WHERE, Ending, FakeDispatcher, FakePE
from tb.chip.lists import (
    BUSY,
    CONFIG,
    DONE,
    FAILED,
    INTERRUPT,
    LATE,
    LINES,
    PATIENCE,
    SOFT_RESET,
    Job,
    begin,
)
from tb.harness import bench, run_bench, runs

VALUES_REGION = REGIONS.index("values")


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
            "evictions": count == 1,  # the first kernel after a reset
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


@pytest.mark.parametrize(
    ("simulator", "case"), runs([(case,) for case in CASES], icarus=[("rough",)])
)
def test_chip(simulator: str, case: str) -> None:
    """With a fake PE and dispatcher: memories of short and long latency, and one that stalls."""
    run_bench(
        Chip(CONFIG, pe=FakePE, dispatcher=FakeDispatcher),
        module=__name__,
        simulator=simulator,
        parameters=CASES[case] | {"case": case},
    )
