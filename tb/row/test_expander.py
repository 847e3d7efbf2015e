"""The expander against `expand`."""

import random
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Assume, Module, Signal
from cocotb.triggers import ClockCycles

from loopnest_hw.config import make_config
from loopnest_hw.descriptor import CellMode, ResultMode
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.row.expander import Expander
from loopnest_hw.tokens import joined, token
from loopnest_sim.model.expand import Cell, ResultCell, Token, expand
from loopnest_sim.model.join import Joined
from tb.formal import prove_stream_law
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source, encode

CONFIG = make_config("tiny")
OPERANDS = range(CONFIG.operands)
ROW = kernel_layout(CONFIG)["row"].shape.elem_shape


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_expander(simulator: str) -> None:
    run_bench(Expander(CONFIG), module=__name__, simulator=simulator)


def test_stream_law() -> None:
    def constant_row(m: Module, expander: Expander) -> None:
        before = Signal(ROW)
        running = Signal()
        m.d.sync += [before.eq(expander.row), running.eq(1)]
        m.d.comb += Assume(~running | (before.as_value() == expander.row.as_value()))

    prove_stream_law(
        Expander(CONFIG),
        outputs=["o"],
        inputs_assumed=["i", "context"],
        properties=constant_row,
    )


def random_blocks(rng: random.Random, cells: list[Cell]) -> list[Joined]:
    """Return blocks like those of a join: lanes are some of those that a joining operand has."""
    blocks = []
    rank = [0] * len(OPERANDS)
    for coordinate in sorted(rng.sample(range(50), rng.choice([0, 1, 1, 2, 5]))):
        mask = [
            rng.getrandbits(16) & rng.getrandbits(16) if c.mode == CellMode.SCAN or c.ones else 0
            for c in cells
        ]
        lanes = (mask[0] | mask[1] | mask[2] | 1 << rng.randrange(16)) & rng.getrandbits(16)
        if lanes:
            blocks.append(Joined(coordinate, lanes, tuple(mask), tuple(rank)))
        rank = [r + m.bit_count() for r, m in zip(rank, mask, strict=True)]
    return blocks


def joined_items(blocks: list[Joined], child: list[int]) -> list[dict[str, Any]]:
    """Return the blocks as items of the joiner, one each."""
    padded = blocks or [Joined(0, 0, (0,) * len(OPERANDS), (0,) * len(OPERANDS))]
    return [
        {
            "block": [
                {
                    "coordinate": b.coordinate,
                    "lanes": b.lanes,
                    "mask": list(b.mask),
                    "rank": list(b.rank),
                }
            ],
            "count": len(blocks) > 0,
            "child": child,
            "last": n == len(padded) - 1,
        }
        for n, b in enumerate(padded)
    ]


def token_value(t: Token) -> dict[str, Any]:
    """Return the token as a stream item."""
    return {
        "position": list(t.position),
        "present": sum(bit << o for o, bit in enumerate(t.present)),
        "fiber": t.fiber,
        "key": t.key,
        "stop": t.stop,
        "null": t.null,
    }


@cocotb.test()
@cocotb.parametrize(trial=[0, 1, 2, 3], stall=[0.0, 0.4])
async def random_fibers(dut: Any, trial: int, stall: float) -> None:
    await bench.start(dut)
    rng = bench.rng()
    cells = [
        Cell(rng.choice(list(CellMode)), False, rng.choice([1, 1, 7, 1000, rng.getrandbits(32)]))
        for _ in OPERANDS
    ]
    if rng.random() < 0.5:
        cells[1] = Cell(rng.choice([CellMode.HOLD, CellMode.FOLLOW]), True, 3)
    result = ResultCell(rng.choice(list(ResultMode)), rng.choice([1, 16, 250]))
    dut.row.value = encode(
        ROW,
        {
            "cell": [{"mode": c.mode.value, "ones": c.ones, "step": c.step} for c in cells],
            "result_mode": result.mode.value,
            "result_step": result.step,
        },
    )
    items: list[Any] = []
    contexts: list[Token] = []
    expected: list[Token] = []
    lanes = 0
    for _ in range(80):
        context = Token(
            tuple(rng.getrandbits(32) for _ in OPERANDS),
            tuple(rng.random() < 0.7 for _ in OPERANDS),
            rng.getrandbits(32),
            rng.getrandbits(20),
            rng.choice([0, 0, 1, 2]),
            rng.random() < 0.2,
        )
        child = [rng.getrandbits(32) for _ in OPERANDS]
        blocks = random_blocks(rng, cells)
        contexts.append(context)
        if not context.null:
            items += joined_items(blocks, child)
        expected += expand(context, blocks, child, cells, result)
    lanes = len(expected)
    blocks_in = Source(dut, "i", joined(CONFIG, 1), bench.rng(), stall)
    contexts_in = Source(dut, "context", token(CONFIG), bench.rng(), stall)
    sink = Sink(dut, "o", token(CONFIG), bench.rng(), stall)
    senders = [
        cocotb.start_soon(blocks_in.send_all(items)),
        cocotb.start_soon(contexts_in.send_all([token_value(c) for c in contexts])),
    ]
    start = cocotb.utils.get_sim_time("ns")
    await sink.wait_for(lanes)
    cycles = (cocotb.utils.get_sim_time("ns") - start) / 2
    for sender in senders:
        await sender
    await ClockCycles(dut.clk, 20)
    assert len(sink.received) == lanes >= 80
    for got, want in zip(sink.received, expected, strict=True):
        value = token_value(want)
        for name in ("stop", "null", "fiber", "key") if want.null else value:
            assert got[name] == value[name], f"{name}: {got} for {want}"
    if not stall:
        assert cycles <= lanes + 20, f"{cycles} cycles for {lanes} tokens"
