"""The dispatcher against `scan`, `join` and `chunks`: row 0 of many nests, each after a reset."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles
from numpy.typing import NDArray

from loopnest_hw.config import LANES, LINE_BYTES, PAIR_COORDINATES, ChipConfig, make_config
from loopnest_hw.descriptor import CellMode
from loopnest_hw.dispatch.dispatcher import Dispatcher, scanned_lines
from loopnest_hw.format import BLOCK_MASK_BITS, LINE_WORDS, OPEN_STRIDE, PACKED_STRIDE, WORD_BYTES
from loopnest_hw.registers import ErrorCode
from loopnest_sim.model.gather import lines_taken
from loopnest_sim.model.join import Joined, Word, join
from loopnest_sim.model.ones import ones as all_ones
from loopnest_sim.model.scanner import scan
from loopnest_sim.model.weigh import chunks, part_weight, steps, weighed_level
from tb.dispatch.kernels import complete, inner_fields, share_fields
from tb.dispatch.retiring import RetiringPE
from tb.harness import SIMULATORS, bench, run_bench
from tb.row.test_joiner import table
from tb.stream.memory import LineMemory
from tb.test_pe import register

CONFIGS = {
    "one": make_config("tiny", fifo_depth=2, stream_depth=4, pool_lines=32),
    "three": make_config("tiny", pes=3, fifo_depth=2, stream_depth=4, pool_lines=32),
    "deep": make_config("tiny", pes=3, reads_outstanding=256),
}
OPERANDS = range(CONFIGS["one"].operands)
IMAGE_LINES = 256
IMAGE_WORDS = IMAGE_LINES * LINE_WORDS
NESTS = 16
LONGEST = 150


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("name", CONFIGS)
def test_dispatcher(simulator: str, name: str) -> None:
    """One PE; several; several with queues that cover a long latency."""
    if name == "deep" and simulator == "icarus":
        pytest.skip("for the rates, which do not depend on the simulator")
    run_bench(
        Dispatcher(CONFIGS[name]),
        module=__name__,
        simulator=simulator,
        parameters={"name": name},
        testcase="rate" if name == "deep" else None,
    )


def place_fiber(
    words: NDArray[np.uint32], at: int, position: int, stride: int, rng: random.Random
) -> tuple[int, int]:
    """Write a table with one fiber of ascending blocks, from line ``at`` on.

    Returns the lines of its table and of its block words.
    """
    length = rng.choice([0, 1, 2, 3, 9, LONGEST])
    coordinates = sorted(rng.sample(range(length + 10), length))
    first = rng.randrange(9)
    blocks = at + stride * position // LINE_WORDS + 2
    entry = at * LINE_WORDS + stride * position
    words[entry : entry + 3] = first, rng.getrandbits(32), first + length
    for n, coordinate in enumerate(coordinates):
        mask = rng.choice([1 << rng.randrange(LANES), rng.randrange(1, 1 << LANES)])
        words[blocks * LINE_WORDS + first + n] = coordinate << BLOCK_MASK_BITS | mask
    return at, blocks


class Nest:
    """Row 0 of a random nest, its fibers in memory, and the expected items."""

    def __init__(self, config: ChipConfig, image: NDArray[np.uint8], rng: random.Random) -> None:
        self._config = config
        self._image = image
        modes = [rng.choice(list(CellMode)) for _ in OPERANDS]
        modes[rng.choice(OPERANDS)] = CellMode.SCAN
        in_turns = config.pes > 1 and rng.random() < 0.4
        if in_turns:
            modes = [rng.choice([m for m in CellMode if m != CellMode.SCAN]) for _ in OPERANDS]
        used = [m == CellMode.SCAN or rng.random() < 0.8 for m in modes]
        others = [o for o in OPERANDS if modes[o] != CellMode.SCAN and used[o]]
        if in_turns and not others:
            used[0], others = True, [0]
        ones = [rng.choice(others)] if others and (in_turns or rng.random() < 0.5) else []
        size = rng.choice([0, 1, 16, 33, 500, *4 * [LANES * (LONGEST + 10)]])
        if in_turns:
            size = rng.choice([PAIR_COORDINATES + 1, 500, LANES * LONGEST])
        starts = [rng.choice([0, 0, 1, 20]) for _ in OPERANDS]
        self.joins = [modes[o] == CellMode.SCAN or o in ones for o in OPERANDS]
        self.scans = [mode == CellMode.SCAN for mode in modes]
        self.child = [0 for _ in OPERANDS]
        tables = table(rng, sum(bit << o for o, bit in enumerate(self.joins)))
        fibers: list[list[Word]] = [[] for _ in OPERANDS]
        settings: list[dict[str, int]] = []
        for o in OPERANDS:
            stride = rng.choice([PACKED_STRIDE, OPEN_STRIDE])
            words = image.view("<u4")
            at, blocks = place_fiber(words, o * IMAGE_LINES // 3, starts[o], stride, rng)
            setting = {
                "table": at * LINE_BYTES,
                "blocks": blocks * LINE_BYTES,
            }
            items, _ = scan(image, [starts[o]], stride=stride, **setting)
            settings.append(setting | {"open": int(stride == OPEN_STRIDE)})
            if self.scans[o]:
                self.child[o] = items[0]["child"]
                fibers[o] = [
                    Word(item["word"][n]["coordinate"], item["word"][n]["mask"], item["rank"][n])
                    for item in items
                    for n in range(item["count"])
                ]
            elif o in ones:
                fibers[o] = [word for item in all_ones(size) for word in map(_word, item)]
        scanned = [word for o in OPERANDS if self.scans[o] for word in fibers[o]]
        beyond = any(w.coordinate * LANES + w.mask.bit_length() > size for w in scanned)
        self.error = ErrorCode.COORDINATE if beyond else ErrorCode.NONE
        self.blocks = join(fibers, used, self.joins, tables, tables)
        fields = {"row.0.block_table": tables, "row.0.lane_table": tables, "row.0.size": size}
        fields |= inner_fields(config, rng)
        if config.pes > 1:
            fields |= share_fields(rng)
        if in_turns:
            head = rng.randrange(1, min(4, -(-size // PAIR_COORDINATES)))
            turns = {"head": head, "between": rng.randrange(5)}
            fields |= {"share.rows": 1} | {f"share.{name}": value for name, value in turns.items()}
            self.blocks = [
                block
                for item in all_ones(size, **turns)
                for word in map(_word, item)
                for block in join(
                    [[word] if o in ones else [] for o in OPERANDS],
                    used,
                    self.joins,
                    tables,
                    tables,
                )
            ]
        for o in OPERANDS:
            cell = f"row.0.cell.{o}"
            fields |= {
                f"{cell}.mode": modes[o],
                f"{cell}.ones": int(o in ones),
                f"{cell}.step": rng.choice([1, 1, 2]),
                f"operand.{o}.used": int(used[o]),
                f"operand.{o}.start": starts[o],
            }
            fields |= {f"dispatch.{o}.{name}": value for name, value in settings[o].items()}
        self.fields = complete(config, fields)
        self.shared = config.pes > 1 and bool(self.fields["share.rows"])
        self.weighs = self.shared and weighed_level(config, self.fields) is not None
        self._chunks()

    def _chunks(self) -> None:
        """Compute the expected chunks of each block, and the lines read for them."""
        words = self._image.view("<u4")
        read: list[int] = []
        self.chunks: list[tuple[Joined, int, int]] = []
        """Block, lanes and weight, in order."""
        for block in self.blocks:
            if not self.shared:
                self.chunks.append((block, block.lanes, 0))
                continue
            weighed = []
            for step, places in steps(self._config, self.fields, block, self.child):
                weight = 0
                for place in places:
                    if place is None:
                        weight += 1
                        continue
                    read += place
                    weight += part_weight(*(int(words[self._word(at)]) for at in place))
                weighed.append((step, weight))
            parts = chunks(weighed, self.fields["share.quantum"])
            self.chunks += [(block, lanes, weight) for lanes, weight in parts]
        self.lines = lines_taken(np.array(read, np.uint32)).tolist()
        self._weights = {(b.coordinate, lanes): weight for b, lanes, weight in self.chunks}
        self._order = {at: n for n, at in enumerate(self._weights)}

    def _word(self, address: int) -> int:
        return address % self._image.size // WORD_BYTES

    def weight(self, block: dict[str, Any]) -> int:
        """Return the weight of a chunk that was received."""
        return self._weights[block["coordinate"], block["lanes"]]

    def check(self, received: list[list[dict[str, Any]]]) -> None:
        """Compare the items that each PE received."""
        for items in received:
            assert [item["last"] for item in items] == [0] * (len(items) - 1) + [1]
        if self.shared:
            assert not any(items[-1]["count"] for items in received)
        else:
            assert all(len(items) == 1 and not items[0]["count"] for items in received[1:])
            assert bool(received[0][-1]["count"]) == bool(self.chunks)
        found = []
        for items in received:
            order = [self._place(item) for item in items if item["count"]]
            assert order == sorted(order)
            found += [item for item in items if item["count"]]
        in_order = sorted(found, key=self._place)
        for item, (want, lanes, _) in zip(in_order, self.chunks, strict=True):
            block = item["block"][0]
            assert (block["coordinate"], block["lanes"]) == (want.coordinate, lanes)
            for o in OPERANDS:
                if self.joins[o]:
                    assert (block["mask"][o], block["rank"][o]) == (want.mask[o], want.rank[o])
                if self.scans[o] and want.mask[o]:
                    assert item["child"][o] == self.child[o]

    def _place(self, item: dict[str, Any]) -> int:
        """Return the number of a chunk that was received."""
        block = item["block"][0]
        return self._order[block["coordinate"], block["lanes"]]


def _word(word: int) -> Word:
    """Return a block word of the all-ones fiber."""
    return Word(word >> BLOCK_MASK_BITS, word & (1 << LANES) - 1, 0)


async def restart(dut: Any, kernel: int) -> None:
    """Reset with another kernel."""
    dut.rst.value = 1
    dut.kernel.value = kernel
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0


@cocotb.test()
@cocotb.parametrize(timing=[(1, 0, 0.0), (20, 20, 0.0), (3, 9, 0.4)])
async def nests(dut: Any, timing: tuple[int, int, float]) -> None:
    """Random rows one after the other, at several timings.

    Of the words below row 0, exactly those lines are read which have an entry of a lane.
    """
    config = CONFIGS[bench.parameters["name"]]
    rng = bench.rng()
    latency, spread, stall = timing
    # some words are entries of the level that is weighed
    words = [rng.choice([rng.randrange(40), rng.getrandbits(32)]) for _ in range(IMAGE_WORDS)]
    image = np.array(words, "<u4").view(np.uint8)
    pes = [RetiringPE(dut, config, p) for p in range(config.pes)]
    memory = LineMemory(
        dut, config, image, bench.rng(), latency=latency, spread=spread, stall=stall
    )
    await bench.start(dut)
    count = 0
    errors, weighed, in_turns = set(), set(), set()
    for _ in range(NESTS):
        nest = Nest(config, image, rng)
        memory.lines.clear()
        memory.slots.clear()
        for pe in pes:
            pe.sink.received.clear()
            pe.credit = nest.fields["share.credit"] if nest.shared else None
            pe.weigh = nest.weight
        await restart(dut, register(config, nest.fields))
        for pe in pes:
            await pe.end()
        # nothing more arrives, and every read is answered before the next reset
        await ClockCycles(dut.clk, 100)
        nest.check([pe.sink.received for pe in pes])
        count += sum(len(pe.sink.received) for pe in pes)
        assert int(dut.error.value) == nest.error
        if config.pes > 1:
            words = scanned_lines(config)
            read = zip(memory.lines, memory.slots, strict=True)
            assert [line for line, slot in read if slot >= words] == nest.lines
            weighed.add(nest.weighs)
            in_turns.add(bool(nest.fields["share.head"]))
        errors.add(nest.error)
    assert count >= 2 * NESTS
    assert errors == {ErrorCode.NONE, ErrorCode.COORDINATE}
    assert config.pes == 1 or weighed == in_turns == {False, True}


@cocotb.test()
async def rate(dut: Any) -> None:
    """Two rows of a packed table per cycle, with 100 cycles of memory latency."""
    await check_rate(dut, 0, 2.0)


@cocotb.test()
async def wide_rate(dut: Any) -> None:
    """Steps of four lanes, one per cycle: the words' ring has lines for nine tenths of them."""
    await check_rate(dut, 1, 3.5)


async def check_rate(dut: Any, wide: int, per_cycle: float) -> None:
    """Assert that the PEs get so many rows per cycle, in chunks of four."""
    config = CONFIGS[bench.parameters["name"]]
    if config.pes == 1 or config.fifo_depth < 100:
        return
    size = 2048
    image = np.zeros(IMAGE_LINES * LINE_BYTES, np.uint8)
    pes = [RetiringPE(dut, config, p) for p in range(config.pes)]
    for pe in pes:
        pe.quick()
    LineMemory(dut, config, image, bench.rng(), latency=100)
    await bench.start(dut)
    fields = {
        "row.0.block_table": -1 & (1 << config.table_bits) - 1,
        "row.0.lane_table": -1 & (1 << config.table_bits) - 1,
        "row.0.size": size,
        "row.0.cell.0.mode": CellMode.FOLLOW,
        "row.0.cell.0.ones": 1,
        "row.0.cell.0.step": 1,
        "operand.0.used": 1,
        "row.1.cell.0.mode": CellMode.SCAN,
        "share.rows": 1,
        "share.wide": wide,
        "share.quantum": 4 >> wide,
        "share.credit": 0xFFFF,
    }
    await restart(dut, register(config, complete(config, fields)))
    for pe in pes:
        await pe.end()
    cycles = sorted(cycle for pe in pes for cycle in pe.sink.cycles)
    cycles = cycles[: -config.pes]  # without the ends
    taken = cycles[-1] - cycles[0]
    dut._log.info("%d rows in %d cycles, the first one in cycle %d", size, taken, cycles[0])
    assert taken <= size / per_cycle * 1.05


@cocotb.test()
async def failed_read(dut: Any) -> None:
    """A failed read is reported until the reset; the fiber still ends."""
    config = CONFIGS[bench.parameters["name"]]
    rng = bench.rng()
    image = np.zeros(IMAGE_LINES * LINE_BYTES, np.uint8)
    pes = [RetiringPE(dut, config, p) for p in range(config.pes)]
    LineMemory(dut, config, image, rng, latency=2, bad_lines=frozenset(range(IMAGE_LINES)))
    await bench.start(dut)
    assert int(dut.error.value) == ErrorCode.NONE
    nest = Nest(config, image, rng)
    await restart(dut, register(config, nest.fields))
    for pe in pes:
        await pe.end()
    assert int(dut.error.value) == ErrorCode.READ_ERROR
    await restart(dut, 0)
    await ClockCycles(dut.clk, 2)
    assert int(dut.error.value) == ErrorCode.NONE
