"""The PE against the golden model of whole kernels.

The bench replaces the dispatcher, which sends row 0's blocks, and the memory, which answers late
and in any order, and accepts writes.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles, RisingEdge
from numpy.typing import NDArray

from loopnest_hw.accumulate.place import set_bits
from loopnest_hw.config import ADDRESS_BITS, LINE_BYTES, ChipConfig, make_config
from loopnest_hw.descriptor import Op
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.pe import PE
from loopnest_hw.registers import ErrorCode
from loopnest_hw.tokens import ERROR, EVENTS, LINE_WRITE, joined
from loopnest_sim.image import Image
from loopnest_sim.model.faults import Faults
from loopnest_sim.model.fibers import joined_chunks
from loopnest_sim.model.kernel import KernelResult, run_checked
from loopnest_sim.model.nest import Nest, root
from loopnest_sim.model.watch import Watch
from tb.harness import SIMULATORS, bench, run_bench
from tb.kernels import LARGE, NAMES, SMALL, TALL, fields_of, loaded, lowered
from tb.stream.memory import LineMemory
from tb.streams import Sink, Source, decode, encode

PRESET = "shrunk"
MEMORY_BYTES = 1 << 16
PATIENCE = 50_000

HUGE_AT = MEMORY_BYTES // 2
HUGE = np.full(MEMORY_BYTES // 8, (1 << 31) - 1, np.int32)
"""Address of values, after all that a kernel has in memory; the sum of any two overflows."""

TIMINGS = [(1, 0, 0.0), (60, 50, 0.0), (1, 40, 0.4)]
"""The memory's latency, its variation, and the stall probability of all streams."""

STAGES = encode(EVENTS, {"stage": [3] * EVENTS["stage"].shape.length})
"""Bits of the events with the stages' states."""

ADDRESS = re.compile(r"\.(values|table|blocks)(_end)?$|epilogue\.(bias|scale)$")
"""Fields of the descriptor that are addresses, by their paths."""

Fields = dict[str, int]


def register(config: ChipConfig, fields: Fields) -> int:
    """Return the bits of the kernel register."""
    layout = kernel_layout(config)
    bits = 0
    for path, value in fields.items():
        shape: Any = layout
        at = 0
        for name in path.split("."):
            field = shape[int(name) if name.isdecimal() else name]
            at, shape = at + field.offset, field.shape
        bits |= value << at
    return bits


def moved(fields: Fields, base: int) -> Fields:
    """Return the fields with every address increased by ``base``."""
    return {
        path: value + base * (ADDRESS.search(path) is not None) for path, value in fields.items()
    }


def row_0(config: ChipConfig, fields: Fields, image: Image) -> list[dict[str, Any]]:
    """Return the dispatcher's output: row 0's joined blocks."""
    nest = Nest.of(config, fields)
    first = root(nest, fields["result.start"])
    ((_, blocks),) = joined_chunks(nest.rows[0], first, image, Watch(), Faults())
    child = [int(c[0]) if len(c) else 0 for c in blocks.child]
    items = []
    for n in range(len(blocks.lanes)):
        block = {
            "coordinate": int(blocks.coordinate[n]),
            "lanes": int(blocks.lanes[n]),
            "mask": [int(mask[n]) for mask in blocks.mask],
            "rank": [int(rank[n]) if len(rank) else 0 for rank in blocks.rank],
        }
        items.append({"block": [block], "count": 1, "child": child, "last": 0})
    return items


def part(items: list[dict[str, Any]], lanes: int) -> list[dict[str, Any]]:
    """Return row 0's items with only these of their lanes, and their ends."""
    some: list[dict[str, Any]] = []
    for item in items:
        (block,) = item["block"]
        if block["lanes"] & lanes:
            some.append(item | {"block": [block | {"lanes": block["lanes"] & lanes}]})
    if not some:
        return [{"count": 0, "last": 1}]
    return [*some[:-1], some[-1] | {"last": 1}]


def tokens(items: list[dict[str, Any]]) -> int:
    """Return the number of row-0 tokens of these items: one for each lane, or a null token."""
    lanes = sum(item["block"][0]["lanes"].bit_count() for item in items if item["count"])
    return max(1, lanes)


class System:
    """The PE with its memory and the dispatcher that the bench replaces."""

    def __init__(self, dut: Any, config: ChipConfig, timing: tuple[int, int, float]) -> None:
        latency, spread, stall = timing
        self.dut = dut
        self.config = config
        self.rng = bench.rng()
        self.base = 0
        self.image: NDArray[np.uint8] = np.zeros(MEMORY_BYTES, np.uint8)
        self.memory = LineMemory(
            dut, config, self.image, bench.rng(), latency=latency, spread=spread, stall=stall
        )
        self.blocks = Source(dut, "blocks", joined(config, 1), bench.rng(), stall)
        self.retired = Sink(dut, "retired", 1, bench.rng(), stall)
        Sink(dut, "write", LINE_WRITE, bench.rng(), stall, check=self._write)
        self._events: Counter[int] = Counter()
        self._dirty = True
        cocotb.start_soon(self._count())

    def _write(self, line: dict[str, int]) -> None:
        data = np.frombuffer(line["data"].to_bytes(LINE_BYTES, "little"), np.uint8)
        strobe = np.array([line["strobe"] >> n & 1 for n in range(LINE_BYTES)], np.bool_)
        at = line["line"] * LINE_BYTES - self.base
        assert 0 <= at < MEMORY_BYTES and strobe.any()
        self.image[at : at + LINE_BYTES][strobe] = data[strobe]

    async def _count(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            events = int(self.dut.events.value) & ~STAGES
            if events and not int(self.dut.rst.value):
                self._events[events] += 1

    @property
    def events(self) -> Counter[str]:
        """The counts of the last run, without the stages' states."""
        total: Counter[str] = Counter()
        for events, cycles in self._events.items():
            counts = decode(EVENTS, events)
            del counts["stage"]
            total.update({name: count * cycles for name, count in counts.items()})
        return total

    @property
    def error(self) -> tuple[ErrorCode, int]:
        """The error code and its ``where``."""
        error = decode(ERROR, int(self.dut.error.value))
        return ErrorCode(error["code"]), error["where"]

    def load(self, image: Image) -> None:
        """Load an image into memory."""
        self.image[:] = image.read(0, MEMORY_BYTES)

    async def _sweep(self) -> None:
        """Clear the accumulator's tables, which may go on when the nest begins."""
        for set_ in range(1 << set_bits(self.config)):
            self.dut.sweep.value, self.dut.sweep_set.value = 1, set_
            await RisingEdge(self.dut.clk)
        self.dut.sweep.value = 0

    async def run(
        self, fields: Fields, items: list[dict[str, Any]], bad_lines: Iterable[int] = ()
    ) -> tuple[ErrorCode, int]:
        """Reset the PE and run a nest, at a random base address, to its end or its error."""
        dut = self.dut
        dut.rst.value = 1
        # the last run's pending write
        await ClockCycles(dut.clk, 3)
        if self._dirty:
            cocotb.start_soon(self._sweep())
        self.base = self.rng.randrange((1 << ADDRESS_BITS) // MEMORY_BYTES) * MEMORY_BYTES
        first = self.base // LINE_BYTES
        self.memory.bad_lines = frozenset(first + n for n in bad_lines)
        dut.kernel.value = register(self.config, moved(fields, self.base))
        while not self.memory.quiet:
            await RisingEdge(dut.clk)
        await ClockCycles(dut.clk, 2)
        dut.rst.value = 0
        self._events.clear()
        self.retired.received.clear()
        self.memory.lines.clear()
        sender = cocotb.start_soon(self.blocks.send_all(items))
        for _ in range(PATIENCE):
            await RisingEdge(dut.clk)
            if int(dut.done.value) or self.error[0]:
                break
        else:
            raise AssertionError("the nest does not end")
        if not self.error[0]:
            # wait for late outputs: the retired items and the last error
            await ClockCycles(dut.clk, 20)
            assert int(dut.done.value)
        self._dirty = bool(self.error[0])
        sender.cancel()
        self.blocks.set_idle()
        assert all(0 <= n - first < MEMORY_BYTES // LINE_BYTES for n in self.memory.lines)
        return self.error


def golden(config: ChipConfig, fields: Fields, image: Image) -> tuple[KernelResult, Faults]:
    """Run a kernel on the golden model, which changes the image."""
    faults = Faults()
    return run_checked(config, image, fields, Watch(), faults), faults


@cocotb.test()
@cocotb.parametrize(timing=TIMINGS)
async def kernels(dut: Any, timing: tuple[int, int, float]) -> None:
    """Kernels of all kinds give the golden model's memory contents and counts."""
    config = make_config(**bench.parameters["config"])
    system = System(dut, config, timing)
    await bench.start(dut)
    large = bench.parameters["large"]
    sizes = [(name, SMALL) for name in NAMES]
    if large:
        sizes += 3 * [("spgemm by rows", LARGE), ("add of three", TALL)]
    seen: Counter[str] = Counter()
    for number, (name, size) in enumerate(sizes):
        kernel = lowered(PRESET, config, name, number, size)
        fields = fields_of(config, kernel)
        system.load(loaded(kernel))
        items = part(row_0(config, fields, loaded(kernel)), -1)
        assert await system.run(fields, items) == (ErrorCode.NONE, 0)
        expected = loaded(kernel)
        result, _ = golden(config, fields, expected)
        np.testing.assert_array_equal(system.image, expected.read(0, MEMORY_BYTES))
        events = system.events
        assert system.retired.received.count(0) == tokens(items)
        assert system.retired.received.count(1) == events["again"]
        assert events["multiplies"] >= result.multiplies
        if not events["again"]:
            counted = (events["multiplies"], events["leaf_step"])
            assert counted == (result.multiplies, result.steps)
        seen.update(events)
    assert all(seen[name] for name in ("leaf_step", "result_blocks", "result_values"))
    assert seen["again"] or not large


@cocotb.test()
@cocotb.parametrize(timing=TIMINGS)
async def shares_of_row_0(dut: Any, timing: tuple[int, int, float]) -> None:
    """A dense result is complete once each of row 0's lanes was in the blocks of some run."""
    config = make_config(**bench.parameters["config"])
    system = System(dut, config, timing)
    await bench.start(dut)
    rng = bench.rng()
    for number in range(3):
        kernel = lowered(PRESET, config, "gemm", number, TALL)
        fields = fields_of(config, kernel)
        items = row_0(config, fields, loaded(kernel))
        system.load(loaded(kernel))
        lanes = rng.getrandbits(16)
        for some in (lanes, ~lanes):
            assert await system.run(fields, part(items, some)) == (ErrorCode.NONE, 0)
        expected = loaded(kernel)
        golden(config, fields, expected)
        np.testing.assert_array_equal(system.image, expected.read(0, MEMORY_BYTES))


@cocotb.test()
async def errors(dut: Any) -> None:
    """Nests with errors end with an error that the golden model predicts; the next nest is correct.

    A region of the result is too small, a row's size is below its coordinates, terms are so large
    that the sum of two overflows int32, all rows of the result are one fiber, or a read fails.
    """
    config = make_config(**bench.parameters["config"])
    system = System(dut, config, TIMINGS[0])
    await bench.start(dut)
    rng = bench.rng()
    found: Counter[ErrorCode] = Counter()
    for number, (name, sizes) in enumerate([(n, SMALL) for n in 3 * NAMES] + [("gemm", LARGE)]):
        kernel = lowered(PRESET, config, name, number, sizes)
        fields = fields_of(config, kernel)
        items = part(row_0(config, fields, loaded(kernel)), -1)
        room = rng.choice(["blocks", "values", "table"])
        row = rng.randrange(1, config.rows)
        changed = [
            {f"result.{room}_end": fields[f"result.{room}"]},
            {f"row.{row}.size": rng.randrange(fields[f"row.{row}.size"] + 1)},
            {"operand.0.values": HUGE_AT, "operand.0.wide": 1, "op1": Op.FIRST},
            {"drain_stop": fields["drain_stop"] + 1},
            {},
        ]
        for change in changed:
            expected = loaded(kernel)
            expected.write(HUGE_AT, HUGE)
            system.load(expected)
            _, faults = golden(config, fields | change, expected)
            error = await system.run(fields | change, items)
            if faults.found:
                assert error in faults.found
            else:
                assert error == (ErrorCode.NONE, 0)
                np.testing.assert_array_equal(system.image, expected.read(0, MEMORY_BYTES))
            if error[0] is ErrorCode.RESULT_FULL:
                # the runtime then reserves what the counters report
                await ClockCycles(dut.clk, 2)
                assert system.events["result_values"] == faults.needed
            found[error[0]] += 1
        asked = system.memory.lines
        if asked:
            bad = rng.choice(asked) % (MEMORY_BYTES // LINE_BYTES)
            assert await system.run(fields, items, [bad]) == (ErrorCode.READ_ERROR, 0)
            await ClockCycles(dut.clk, 50)
            assert system.error == (ErrorCode.READ_ERROR, 0)
            found[ErrorCode.READ_ERROR] += 1
    assert found.keys() == {
        ErrorCode.NONE,
        ErrorCode.READ_ERROR,
        ErrorCode.RESULT_FULL,
        ErrorCode.COORDINATE,
        ErrorCode.OVERFLOW,
        ErrorCode.KEYS,
        ErrorCode.SLOTS,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("simulator", "multipliers", "dtype"),
    [("verilator", 2, "int8"), ("icarus", 1, "bf16"), ("icarus", 16, "int8")],
)
def test_pe(simulator: str, multipliers: int, dtype: str) -> None:
    """The default leaf; in Icarus, which is slow, the narrowest and the widest."""
    if simulator not in SIMULATORS:
        pytest.skip(f"no {simulator}")
    all_of_it = simulator == "verilator"
    config = {"preset": PRESET, "dtype": dtype, "multipliers": multipliers}
    run_bench(
        PE(make_config(**config)),
        module=__name__,
        simulator=simulator,
        parameters={"config": config, "large": all_of_it},
        testcase=None if all_of_it else f"kernels/timing={len(TIMINGS) - 1}",
        optimise=all_of_it,
    )
