"""The distributor with PEs that take chunks and retire their tokens at any pace."""

import random
from dataclasses import replace
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Assert, Assume, Module, Signal
from cocotb.triggers import ClockCycles

from loopnest_hw.config import LANES, ChipConfig, make_config
from loopnest_hw.dispatch.distributor import Distributor
from loopnest_hw.dispatch.held import held_chunks
from loopnest_hw.tokens import chunk
from tb.dispatch.kernels import complete, share_fields
from tb.dispatch.retiring import RetiringPE
from tb.formal import prove_stream_law
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Source
from tb.test_pe import register

CONFIGS = {
    "shallow": make_config("shrunk", "int8", pes=3, operands=2, rows=3),
    "deep": make_config("tiny", pes=5, operands=2, rows=3),
}
NESTS = 20
CHUNKS = 120
DEEP_EXTRA = 2
"""Items that a deep queue holds beyond its depth."""

Item = dict[str, Any]
Fields = dict[str, int]


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("name", CONFIGS)
def test_distributor(simulator: str, name: str) -> None:
    run_bench(
        Distributor(CONFIGS[name]), module=__name__, simulator=simulator, parameters={"name": name}
    )


def test_stream_law() -> None:
    """The stream law, and: chunks that came in are those taken and those at an output.

    None is lost or doubled, of up to 7 at once.
    """

    def counts(m: Module, unit: Any) -> None:
        came = Signal(3)
        taken = Signal(3)
        rows = Signal()
        started = Signal(reset_less=True)
        sent = [o.valid & (o.payload.count != 0) for o in unit.o]
        arrives = unit.i.valid & unit.i.ready & (unit.i.payload.item.count != 0)
        m.d.sync += [
            came.eq(came + arrives),
            taken.eq(taken + sum(s & o.ready for s, o in zip(sent, unit.o, strict=True))),
            rows.eq(unit.kernel.share.rows),
            started.eq(1),
        ]
        m.d.comb += [
            Assume(~started | (rows == unit.kernel.share.rows)),
            Assert((came - taken)[:3] == sum(sent)),
        ]

    config = replace(CONFIGS["shallow"], pes=2)
    prove_stream_law(Distributor(config), outputs=["o__0", "o__1"], properties=counts)


def random_chunks(config: ChipConfig, rng: random.Random, fields: Fields, count: int) -> list[Item]:
    """Return the chunks of a nest; their coordinates are their numbers."""
    found: list[Item] = []
    heaviest = rng.choice([3, 300, 0xFFFF])
    for n in range(count):
        block = {
            "coordinate": n,
            "lanes": rng.choice([1 << rng.randrange(LANES), rng.randrange(1, 1 << LANES)]),
            "mask": [rng.getrandbits(16) for _ in range(config.operands)],
            "rank": [rng.getrandbits(20) for _ in range(config.operands)],
        }
        child = [rng.getrandbits(32) for _ in range(config.operands)]
        item = {"block": [block], "count": 1, "child": child, "last": 0}
        weight = rng.randrange(heaviest + 1) if fields["share.rows"] else 0
        found.append({"item": item, "weight": weight})
    if not found or rng.random() < 0.5:
        found.append({"item": {"count": 0}, "weight": 0})
    found[-1]["item"]["last"] = 1
    return found


class Nest:
    """The device, reset with new settings, and its PEs."""

    def __init__(self, dut: Any, fields: Fields) -> None:
        self._dut = dut
        self.config = CONFIGS[bench.parameters["name"]]
        self.fields = complete(self.config, fields)
        self.weights: dict[int, int] = {}

    async def start(self) -> None:
        self._dut.rst.value = 1
        self._dut.kernel.value = register(self.config, self.fields)
        await ClockCycles(self._dut.clk, 2)
        self._dut.rst.value = 0

    def take(self) -> list[RetiringPE]:
        """Return PEs that take the chunks."""
        credit = self.fields["share.credit"] if self.fields["share.rows"] else None
        return [
            RetiringPE(self._dut, self.config, p, credit=credit, weigh=self.weight)
            for p in range(self.config.pes)
        ]

    def weight(self, block: Item) -> int:
        """Return a chunk's weight."""
        return self.weights[block["coordinate"]]

    def chunks(self, rng: random.Random, count: int) -> list[Item]:
        found = random_chunks(self.config, rng, self.fields, count)
        self.weights.update((n, part["weight"]) for n, part in enumerate(found))
        return found


@cocotb.test()
@cocotb.parametrize(nest=list(range(NESTS)))
async def every_chunk_goes_to_one_pe(dut: Any, nest: int) -> None:
    """Random chunks and paces, with and without sharing; every PE gets its end."""
    rng = bench.rng()
    fields = share_fields(rng) | {"share.rows": int(nest % 4 != 0)}
    await bench.start(dut)
    run = Nest(dut, fields)
    sent = run.chunks(rng, rng.choice([0, 1, *3 * [bench.count(CHUNKS)]]))
    pes = run.take()
    source = Source(dut, "i", chunk(run.config), bench.rng(), rng.choice([0.0, 0.3]))
    await run.start()
    await source.send_all(sent)
    for pe in pes:
        await pe.end()
    await ClockCycles(dut.clk, 20)
    want = [part["item"] for part in sent if part["item"]["count"]]
    for number, pe in enumerate(pes):
        lasts = [item["last"] for item in pe.sink.received]
        assert lasts == [0] * (len(lasts) - 1) + [1], "one last item, at the end"
        if fields["share.rows"]:
            assert not pe.sink.received[-1]["count"]
            order = [item["block"][0]["coordinate"] for item in pe.items]
            assert order == sorted(order)
        elif number:
            assert not pe.items
        else:
            assert [bool(item["count"]) for item in pe.sink.received] == [
                bool(part["item"]["count"]) for part in sent
            ]
    got = [item for pe in pes for item in pe.items]
    assert len(got) == len(want)
    for item in got:
        expected = want[item["block"][0]["coordinate"]]
        last = 0 if fields["share.rows"] else expected["last"]
        assert item == expected | {"last": last}


@cocotb.test()
@cocotb.parametrize(shared=[True, False])
async def rates(dut: Any, shared: bool) -> None:
    """A chunk per cycle, whether for all PEs or for one."""
    rng = bench.rng()
    await bench.start(dut)
    run = Nest(dut, {"share.rows": int(shared), "share.credit": 0xFFFF})
    sent = run.chunks(rng, CHUNKS)
    for part in sent:
        part["weight"] = min(part["weight"], 100)
        part["item"]["last"] = 0
        if part["item"]["count"]:
            part["item"]["block"][0]["lanes"] = 1
    sent = [part for part in sent if part["item"]["count"]]
    pes = run.take()
    for pe in pes:
        pe.quick()
    source = Source(dut, "i", chunk(run.config), bench.rng())
    await run.start()
    task = cocotb.start_soon(source.send_all(sent))
    await task
    await ClockCycles(dut.clk, 20)
    cycles = sorted(cycle for pe in pes for cycle in pe.sink.cycles)
    assert len(cycles) == CHUNKS
    assert cycles[-1] - cycles[0] == CHUNKS - 1
    if shared:
        assert all(len(pe.items) >= CHUNKS // len(pes) - 2 for pe in pes), "in turn"


@cocotb.test()
async def room(dut: Any) -> None:
    """A PE that retires nothing gets as many chunks as can be recorded, whatever they weigh."""
    rng = bench.rng()
    await bench.start(dut)
    run = Nest(dut, {"share.rows": 1, "share.credit": 1})
    depth = held_chunks(run.config)
    sent = run.chunks(rng, 4 * depth * run.config.pes)
    for part in sent:
        part["weight"] = 0
    run.weights = dict.fromkeys(run.weights, 0)
    pes = run.take()
    for pe in pes:
        pe.quick()
        pe.stopped = True
    source = Source(dut, "i", chunk(run.config), bench.rng())
    await run.start()
    task = cocotb.start_soon(source.send_all(sent))
    await ClockCycles(dut.clk, 6 * depth * run.config.pes)
    assert not task.done()
    for pe in pes:
        assert depth <= len(pe.sink.received) <= depth + DEEP_EXTRA
        pe.stopped = False
    await task
    for pe in pes:
        await pe.end()
    assert sum(len(pe.items) for pe in pes) == sum(part["item"]["count"] for part in sent)


@cocotb.test()
async def credit(dut: Any) -> None:
    """The PE that retires gets the chunks; the others get no more than their credit allows.

    What a PE retires before it has a chunk does not count, and a chunk counts to its last token.
    """
    rng = bench.rng()
    await bench.start(dut)
    run = Nest(dut, {"share.rows": 1, "share.credit": 6})
    sent = run.chunks(rng, CHUNKS)
    for part in sent:
        part["weight"] = part["item"]["count"] * 6
        if part["item"]["count"]:
            part["item"]["block"][0]["lanes"] = 0b101
    run.weights = dict.fromkeys(run.weights, 6)
    pes = run.take()
    for pe in pes:
        pe.quick()
        pe.stopped = pe is not pes[1]
    source = Source(dut, "i", chunk(run.config), bench.rng())
    await run.start()
    await pes[0].retired.send(0)
    await source.send_all(sent[: CHUNKS // 2])
    await ClockCycles(dut.clk, 40)
    await pes[0].retired.send(0)
    await source.send_all(sent[CHUNKS // 2 :])
    await ClockCycles(dut.clk, 40)
    # 0 and 6 are within the credit
    assert [len(pe.items) for pe in pes if pe is not pes[1]] == [2] * (len(pes) - 1)
    assert len(pes[1].items) == CHUNKS - 2 * (len(pes) - 1)
