"""The simulator: registers, latency, bandwidth, stalls, order, errors."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from amaranth.back import verilog

from loopnest_sim.build import BuildError
from loopnest_sim.library import build_simulator
from loopnest_sim.memory import Memory
from loopnest_sim.simulator import FIRST_CYCLES, SimulationError, Simulator
from tests.sim.copier import ERRORS, LIMIT, LINES, SCRATCH, SOURCE, START, TARGET, Copier

FROM, TO = 0x1000_0FE0, 0x8000_0000


@cache
def design(fault: str = "") -> str:
    return verilog.convert(Copier(fault), name="copier", emit_src=False, strip_internal_attrs=True)


def copy(lines: int, fault: str = "", **behaviour: Any) -> tuple[int, Simulator]:
    """Copy random lines, check every byte, and return the cycles from start to interrupt."""
    sim = Simulator(design(fault), top="copier", memory=Memory(fill=0xA5, **behaviour))
    content = np.random.default_rng(lines).integers(0, 256, 32 * lines, dtype=np.uint8)
    sim.write(FROM, content)
    for offset, value in ((SOURCE, FROM), (TARGET, TO), (LINES, lines), (START, 1)):
        sim.set_register(offset, value)
    cycles = sim.run_until_interrupt(1_000_000)
    copied = np.frombuffer(sim.read(TO - 32, 32 * lines + 64), np.uint8).reshape(-1, 32)
    if "errors" not in behaviour:
        assert (copied[1:-1, :31] == content.reshape(-1, 32)[:, :31]).all()
    assert (copied[1:-1, 31] == 0xA5).all()
    assert (copied[[0, -1]] == 0xA5).all()
    return cycles, sim


def test_registers() -> None:
    with Simulator(design(), top="copier") as sim:
        assert sim.cycle == 0
        for value in (0, 1, 0xDEADBEEF, 0xFFFFFFFF):
            sim.set_register(SCRATCH, value)
            assert sim.register(SCRATCH) == value
        before = sim.cycle
        sim.step(10)
        assert sim.cycle == before + 10
        with pytest.raises(SimulationError, match="write of register 0x7f0 was answered with err"):
            sim.set_register(0x7F0, 1)
        with pytest.raises(SimulationError, match="read of register 0x7f0 was answered with err"):
            sim.register(0x7F0)
        with pytest.raises(SimulationError, match="read of register 0x800 was not answered"):
            sim.register(0x800)
    with pytest.raises(ValueError, match="closed"):
        sim.register(SCRATCH)


def test_memory_access() -> None:
    with Simulator(design(), top="copier", memory=Memory(fill=7)) as sim:
        data = bytes(range(256)) * 40
        sim.write(0xFFFF_D7FF, data)
        assert sim.read(0xFFFF_D7FE, len(data) + 2) == b"\7" + data + b"\7"
        sim.write(0, np.arange(5, dtype=np.int32))
        assert np.frombuffer(sim.read(0, 20), np.int32).tolist() == [0, 1, 2, 3, 4]
        for address, size in ((-1, 1), (0xFFFF_FFFF, 2)):
            with pytest.raises(ValueError, match="expected a range within 32 bits"):
                sim.read(address, size)


@pytest.mark.parametrize("latency", [1, 2, 57, 400])
def test_latency(latency: int) -> None:
    """One line takes a read and a write, each of exactly the latency."""
    cycles, sim = copy(1, latency=latency)
    longer, _ = copy(1, latency=latency + 10)
    assert longer - cycles == 20
    assert cycles == 2 * latency + cycles_of_copier()
    assert sim.traffic.lines_read == sim.traffic.lines_written == 1
    assert (sim.traffic.bytes_read, sim.traffic.bytes_written) == (32, 31)
    assert not sim.violations


@cache
def cycles_of_copier() -> int:
    """Cycles of a copy of one line in a memory without latency."""
    cycles, _ = copy(1, latency=1)
    return cycles - 2


@pytest.mark.parametrize("rate", [4, 12.5, 16, 31, 32, 64])
def test_bandwidth(rate: float) -> None:
    """Both directions reach the rate, and no more than it."""
    lines = 1000
    cycles, sim = copy(lines, latency=100, bytes_per_cycle=rate)
    per_line = 32 / min(rate, 32)
    # an idle memory has up to three lines' worth of credit
    assert (lines - 3) * per_line <= cycles <= (lines + 2) * per_line + 2 * 100 + 20
    assert sim.traffic.lines_read == lines


def test_in_flight_limits_bandwidth() -> None:
    """Little's law: `LIMIT` lines for each round trip."""
    lines, latency = 4 * LIMIT, 1000
    cycles, _ = copy(lines, latency=latency)
    assert cycles == pytest.approx(4 * 2 * latency, rel=0.1)


def test_random_stalls() -> None:
    lines = 500
    quick, _ = copy(lines)
    once, _ = copy(lines, stall=0.5, seed=1)
    again, _ = copy(lines, stall=0.5, seed=1)
    other, sim = copy(lines, stall=0.5, seed=2)
    assert once == again != other
    assert once > 1.5 * quick
    assert not sim.violations


@pytest.mark.parametrize("stall", [0, 0.3])
def test_order(stall: float) -> None:
    """Answers change their order only where asked to, and never within an identifier."""
    _, sim = copy(300, stall=stall)
    assert sim.register(SCRATCH) == 0
    _, sim = copy(300, stall=stall, reorder=True)
    assert sim.register(SCRATCH) > 100
    assert not sim.violations


def test_error_answers() -> None:
    lines = 100
    _, sim = copy(lines, errors=(FROM + 32 * 10, FROM + 32 * 13))
    assert sim.register(ERRORS) == 3
    _, sim = copy(lines, errors=(TO + 32 * 10, TO + 32 * 14))
    assert sim.register(ERRORS) == 4
    assert sim.read(TO + 32 * 10, 32 * 4) == b"\xa5" * 128


def test_window() -> None:
    _, sim = copy(10, window=(FROM, TO + 320))
    assert not sim.violations
    _, sim = copy(10, window=(FROM, TO + 32 * 8))
    assert sim.violations[0].startswith("write outside the memory's window at 0x80000100 in cycle")
    assert "(2 such accesses)" in sim.violations[0]
    _, sim = copy(10, window=(FROM + 32, TO + 320))
    assert sim.violations[0].startswith("read outside the memory's window at 0x10000fe0 in cycle")


@pytest.mark.parametrize(
    ("fault", "message"), [("size", "a beat is not of 32"), ("hold", "a read request changed")]
)
def test_protocol(fault: str, message: str) -> None:
    _, sim = copy(50, fault, stall=0.5)
    assert message in sim.violations[0]


def test_no_interrupt() -> None:
    with Simulator(design(), top="copier") as sim:
        seen: list[int] = []
        with pytest.raises(SimulationError, match="no interrupt within 250000 cycles"):
            sim.run_until_interrupt(250_000, seen.append)
        assert sim.cycle == 250_000
        assert seen[0] == FIRST_CYCLES
        assert len(seen) >= 3 and seen == sorted(set(seen)) and seen[-1] == 250_000


def test_again_after_interrupt() -> None:
    _, sim = copy(20)
    sim.set_register(START, 2)
    assert not sim.interrupt
    sim.set_register(LINES, 5)
    sim.set_register(TARGET, 0x200)
    sim.set_register(START, 1)
    sim.run_until_interrupt(1000)
    assert sim.read(0x200, 31) == sim.read(FROM, 31)


def test_reset() -> None:
    """The pin resets a chip in the middle of a copy, a transaction and a burst of answers."""
    _, sim = copy(20, latency=50)
    once = sim.cycle
    for cycles in (1, 7, 30, 60, 75):
        sim.set_register(START, 2)
        sim.set_register(START, 1)
        sim.step(cycles)
        with pytest.raises(SimulationError, match="not answered"):
            sim.register(0x800)
        sim.reset()
        assert not sim.interrupt
        assert [sim.register(r) for r in (SOURCE, TARGET, LINES, ERRORS, SCRATCH)] == [0] * 5
        sim.step(200)
        for offset, value in ((SOURCE, FROM), (TARGET, 0x200), (LINES, 20), (START, 1)):
            sim.set_register(offset, value)
        sim.run_until_interrupt(1000)
        assert sim.read(0x200, 31) == sim.read(FROM, 31)
        assert not sim.violations
    assert sim.cycle > once


def test_two_at_once() -> None:
    """Simulators do not share anything, not even of one design."""
    with Simulator(design(), top="copier") as one, Simulator(design(), top="copier") as two:
        one.set_register(SCRATCH, 1)
        two.set_register(SCRATCH, 2)
        one.write(0, b"one")
        two.write(0, b"two")
        assert (one.register(SCRATCH), two.register(SCRATCH)) == (1, 2)
        assert (one.read(0, 3), two.read(0, 3)) == (b"one", b"two")


def test_broken_verilog() -> None:
    with pytest.raises(BuildError, match="module other was not found"):
        build_simulator(design(), top="other")
    with pytest.raises(BuildError, match="syntax error"):
        build_simulator(design().replace("assign", "asign"), top="copier")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("latency", 0, "latency=0: expected 1 to"),
        ("bytes_per_cycle", 0, "bytes_per_cycle=0: expected more"),
        ("bytes_per_cycle", float("inf"), "bytes_per_cycle=inf: expected more than 0, and finite"),
        ("bytes_per_cycle", float("nan"), "bytes_per_cycle=nan: expected more than 0, and finite"),
        ("stall", 1, "stall=1: expected 0 up to"),
        ("fill", 256, "fill=256: expected a byte"),
        ("errors", (5, 4), r"errors=\(5, 4\): expected"),
        ("window", (0, 1 << 33), "window="),
        ("window", (0,), "window="),
    ],
)
def test_memory_ranges(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Memory(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("latency", 1.5, "an integer"),
        ("latency", True, "an integer"),
        ("seed", "1", "an integer"),
        ("bytes_per_cycle", "32", "a number"),
        ("stall", None, "a number"),
        ("reorder", "no", "True or False"),
        ("errors", (0, 1.5), "a tuple of two integers"),
        ("window", 5, "a tuple of two integers"),
    ],
)
def test_memory_types(field: str, value: Any, expected: str) -> None:
    with pytest.raises(TypeError, match=f"{field}=.*: expected {expected}"):
        Memory(**{field: value})
