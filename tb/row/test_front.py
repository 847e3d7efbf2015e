"""The front of a row against `join`, with scanners that answer late."""

from dataclasses import replace
from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw.descriptor import CellMode
from loopnest_hw.row.front import RowFront
from loopnest_hw.tokens import joined, token
from loopnest_sim.model.expand import Token
from tb.harness import SIMULATORS, bench, run_bench
from tb.row.levels import CONFIG, OPERANDS, ROW, Scanners, random_level, random_token
from tb.row.test_expander import token_value
from tb.streams import Sink, Source, encode

TOKENS = 60


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("pair", [1, 2])
def test_front(simulator: str, pair: int) -> None:
    """The fronts of the upper rows and of the leaf row."""
    run_bench(
        RowFront(CONFIG, pair), module=__name__, simulator=simulator, parameters={"pair": pair}
    )


@cocotb.test()
@cocotb.parametrize(trial=[0, 1, 2, 3], stall=[0.0, 0.4])
async def random_tokens(dut: Any, trial: int, stall: float) -> None:
    """Tokens of the first epoch, then, once they are accepted and the epoch has changed, of both
    epochs.
    """
    await bench.start(dut)
    rng = bench.rng()
    level = random_level(rng, ones=trial if trial in OPERANDS else None)
    pair = bench.parameters["pair"]
    dut.row.value = encode(ROW, level.row())
    scanners = Scanners(dut, level, bench.rng(), stall)
    source = Source(dut, "i", token(CONFIG), bench.rng(), stall)
    sink = Sink(dut, "o", joined(CONFIG, pair), bench.rng(), stall)
    contexts = Sink(dut, "context", token(CONFIG), bench.rng(), stall)
    sent: list[tuple[Token, int]] = []
    for epoch in (0, 1):
        dut.epoch.value = epoch
        for _ in range(TOKENS):
            context = random_token(rng)
            its_epoch = epoch & int(rng.random() < 0.7)
            await source.send(token_value(context) | {"epoch": its_epoch})
            # a stale one becomes null
            sent.append((replace(context, null=context.null or its_epoch != epoch), its_epoch))
    live = [context for context, _ in sent if not context.null]
    expected: list[tuple[Any, Token, bool]] = []
    for context in live:
        blocks = level.joined(context)
        expected += [(block, context, n == len(blocks) - 1) for n, block in enumerate(blocks)]
        if not blocks:
            expected.append((None, context, True))

    await contexts.wait_for(len(sent))
    while sum(item["last"] for item in sink.received) < len(live):
        await sink.wait_for(len(sink.received) + 1)
    await ClockCycles(dut.clk, 30)
    assert len(live) >= TOKENS
    for o in OPERANDS:
        scans = level.cells[o].mode == CellMode.SCAN
        wanted = [(c.position[o], int(not c.present[o])) for c in live if scans]
        assert [(r["position"], r["empty"]) for r in scanners.asked[o]] == wanted
    for got_context, (context, its_epoch) in zip(contexts.received, sent, strict=True):
        assert got_context == token_value(context) | {"epoch": its_epoch}

    got: list[tuple[Any, list[int], bool]] = []
    for item in sink.received:
        ends = [False] * max(0, item["count"] - 1) + [bool(item["last"])]
        blocks = item["block"][: item["count"]] or [None]
        got += [(b, item["child"], end) for b, end in zip(blocks, ends, strict=True)]
    for (block, child, last), (want, context, want_last) in zip(got, expected, strict=True):
        assert last == want_last
        assert (block is None) == (want is None)
        if want is None:
            continue
        assert (block["coordinate"], block["lanes"]) == (want.coordinate, want.lanes)
        for o in OPERANDS:
            if not level.joins[o]:
                continue
            assert (block["mask"][o], block["rank"][o]) == (want.mask[o], want.rank[o])
            if want.mask[o] and not level.cells[o].ones:
                assert child[o] == level.child(o, context.position[o])
