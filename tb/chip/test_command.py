"""`CommandProcessor` on lists of kernels, in the chip with a fake PE and dispatcher.

`tb.chip.test_chip` has the errors, resets and timeouts of a single kernel.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.chip.chip import Chip
from loopnest_hw.chip.overlap import REGIONS
from loopnest_hw.registers import COUNTERS, OFFSETS, ErrorCode
from tb.chip.fake_pe import FAKE_WHERE, Ending, FakeDispatcher, FakePE
from tb.chip.lists import (
    BUSY,
    CONFIG,
    INTERRUPT,
    LINES,
    PATIENCE,
    SNAPSHOT,
    SOFT_RESET,
    Job,
    begin,
)
from tb.harness import bench, run_bench, runs

CHIP = replace(CONFIG, watchdog=400)
GAP = 20
"""Maximum cycles from a kernel's last write to the next one's first read, without the latency."""

LIST = 0x100


@cocotb.test()
async def gap(dut: Any) -> None:
    """The next descriptor is read while a kernel runs; its kernel begins as soon as the last write
    has its response.
    """
    system = await begin(dut)
    memory = system.memory
    jobs = [Job(system.rng, n, lines=60, counted=n == 1) for n in range(4)]
    system.load(jobs)
    await system.run()
    first, cycles, writes = LIST // 32, memory.read_cycles, 0
    for number, (job, after) in enumerate(pairwise(jobs), 1):
        job.check(memory)
        writes += job.lines + 1
        ended = memory.write_cycles[writes - 1]
        descriptor = range(first + number * LINES, first + (number + 1) * LINES)
        fetched = [memory.reads.index(line) for line in descriptor]
        own = {after.table // 32, after.source // 32}
        begun = min(cycles[n] for n, line in enumerate(memory.reads) if line in own)
        if not memory.stall:
            assert max(cycles[n] for n in fetched) < ended, "read ahead"
            lines = SNAPSHOT if job.counters else 0
            assert memory.latency[1] < begun - ended <= memory.latency[1] + GAP + lines
        assert begun > ended
        writes += SNAPSHOT if job.counters else 0


@cocotb.test()
async def snapshots(dut: Any) -> None:
    """The counters in memory, cumulative, give each kernel's own figures."""
    system = await begin(dut)
    rng = system.rng
    jobs = [
        Job(rng, n, lines=rng.randrange(30), tokens=n + 1, counted=n != 1, fill=fill)
        for n, fill in enumerate((None, 5, None, 64))
    ]
    system.load(jobs)
    await system.run()
    before = dict.fromkeys((name for name, _ in COUNTERS), 0)
    expected = dict(before)
    for number, job in enumerate(jobs):
        job.check(system.memory)
        expected["multiplies"] += 5 * (job.lines + 1)
        for name in ("leaf_steps", "write_busy"):
            expected[name] += job.lines + 1
        expected["lines_read"] += job.lines + job.tokens
        expected["lines_written"] += job.written
        expected["passes"] += 1
        expected["evictions"] += number == 0
        if number == 1:
            continue
        found = job.snapshot(system.memory)
        cycles = found.pop("cycles")
        assert cycles > before.pop("cycles") + job.lines + 1
        assert found == {name: expected[name] for name in found}
        before = found | {"cycles": cycles}
    # the registers' last values are the last kernel's, but for the tail of its write
    for name, _ in COUNTERS:
        value = await system.read(name)
        if name == "cycles":
            tail = value - before[name]
            assert tail >= SNAPSHOT + 2
            if not system.memory.stall:
                assert tail <= system.memory.latency[1] + SNAPSHOT + 8
        else:
            assert value == before[name]
    await system.expect(ErrorCode.NONE, 0, 4)


@cocotb.test()
async def initialised(dut: Any) -> None:
    """Regions of every end; the kernel's own lines are written after their initialisation."""
    system = await begin(dut)
    for fill in (0, 1, 31, 32, 33, 40 * 32 + 7):
        jobs = [Job(system.rng, n, lines=9, fill=fill if n else None) for n in range(3)]
        jobs[1].kernel["operand.0.start"] = jobs[1].lines = 0
        jobs[1].kernel["result.values_end"] = jobs[1].result + 32 + fill
        system.load(jobs)
        await system.run()
        for job in jobs:
            job.check(system.memory)
        written = sum(job.written for job in jobs)
        assert len(system.memory.writes) == await system.read("lines_written") == written
        await system.expect(ErrorCode.NONE, 0, 3)
    # an endless one ends with the budget
    endless = Job(system.rng, 0, fill=1 << 20)
    endless.kernel["budget"] = 400
    system.load([endless])
    await system.run()
    await system.expect(ErrorCode.BUDGET, 0, 0)
    assert max(system.memory.writes) < endless.result // 32 + 420


@cocotb.test()
async def errors_in_turn(dut: Any) -> None:
    """What is wrong with a descriptor that was read ahead is reported only in its turn."""
    system = await begin(dut)
    rng, memory = system.rng, system.memory
    second = LIST // 32 + LINES
    # the first kernel's own error is the run's, whatever follows it
    for ending, wanted in (
        (Ending.ERROR, (ErrorCode.SLOTS, FAKE_WHERE, 0)),
        (Ending.HANG, (ErrorCode.BUDGET, 0, 0)),
        (Ending.DONE, (ErrorCode.READ_ERROR, 32 * (second + 1), 1)),
    ):
        job = Job(rng, 0, lines=30, counted=True)
        job.kernel |= {"operand.1.start": ending, "budget": 900}
        memory.read_errors |= {second + 1, second + 3}
        system.load([job, Job(rng, 1)])
        await system.run()
        await system.expect(*wanted)
        wrote = job.counters // 32 in memory.lines
        assert wrote == (ending is Ending.DONE), "counters of a kernel with an error"
        memory.read_errors.clear()
    # the list lies where the counters go, or in the result
    for where, address in (("counters", 0x12000), ("values", 0x1FE00)):
        for ending, code, count in (
            (Ending.DONE, ErrorCode.OVERLAP, 1),
            (Ending.ERROR, ErrorCode.SLOTS, 0),
        ):
            job = Job(rng, 0, counted=True)
            job.kernel["operand.1.start"] = ending
            system.kernels = address - 32 * LINES
            system.load([job, Job(rng, 1)])
            await system.run()
            place = REGIONS.index(where) if code is ErrorCode.OVERLAP else FAKE_WHERE
            await system.expect(code, place, count)
    system.kernels = LIST
    # the counters' own write fails, at the end of the list and before it
    for count in (1, 2):
        jobs = [Job(rng, n, counted=True) for n in range(count)]
        memory.write_errors = {jobs[0].counters // 32 + rng.randrange(SNAPSHOT)}
        system.load(jobs)
        await system.run()
        await system.expect(ErrorCode.WRITE_ERROR, 0, 0)
        memory.write_errors.clear()


@cocotb.test()
async def resets(dut: Any) -> None:
    """A soft reset at any time of a list, or a memory that stops answering, leaves nothing behind:
    the next list is right.
    """
    system = await begin(dut)
    rng, memory = system.rng, system.memory
    jobs = [Job(rng, n, lines=4, tokens=1, fill=40, counted=True) for n in range(2)]
    system.load(jobs)
    await system.run()
    length = await system.read("cycles")
    await system.expect(ErrorCode.NONE, 0, 2)
    for trial in range(bench.parameters["trials"]):
        system.load(jobs)
        await system.start()
        await ClockCycles(dut.clk, rng.randrange(length))
        memory.mute = trial % 3 == 0
        memory.mute_writes = trial % 3 == 1 and trial % 2 == 0
        await system.host.write(OFFSETS["control"], INTERRUPT | SOFT_RESET)
        for _ in range(PATIENCE):
            if not await system.read("status") & BUSY:
                break
        else:
            raise AssertionError("the chip stays busy")
        memory.mute = memory.mute_writes = False
        await system.host.write(OFFSETS["control"], INTERRUPT | SOFT_RESET)
        for _ in range(PATIENCE):
            await RisingEdge(dut.clk)
            if memory.quiet and not await system.read("status"):
                break
        else:
            raise AssertionError("the chip does not come back")
        system.load(jobs)
        await system.run()
        for job in jobs:
            job.check(memory)
        assert [job.snapshot(memory)["passes"] for job in jobs] == [1, 2]
        await system.expect(ErrorCode.NONE, 0, 2)


CASES: dict[str, dict[str, Any]] = {
    "near": {"latency": (1, 1), "stall": 0.0, "trials": 40},
    "far": {"latency": (100, 100), "stall": 0.0, "trials": 20},
    "rough": {"latency": (1, 40), "stall": 0.4, "trials": 20},
}


ICARUS_TRIALS = 4
"""Icarus is slow."""


@pytest.mark.parametrize(
    ("simulator", "case"), runs([(case,) for case in CASES], icarus=[("rough",)])
)
def test_command(simulator: str, case: str) -> None:
    few = {"trials": ICARUS_TRIALS} if simulator == "icarus" else {}
    run_bench(
        Chip(CHIP, pe=FakePE, dispatcher=FakeDispatcher),
        module=__name__,
        simulator=simulator,
        parameters=CASES[case] | few,
    )
