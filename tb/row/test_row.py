"""A whole row against `join` and `expand`: front and expander, replays, the bypass."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw.row.row import Row
from loopnest_hw.tokens import token
from loopnest_sim.model.expand import Token, expand
from tb.harness import SIMULATORS, bench, run_bench
from tb.row.levels import CONFIG, OPERANDS, ROW, Level, Scanners, random_level, random_token
from tb.row.test_expander import token_value
from tb.streams import Sink, Source, encode

TOKENS = 50


class OneRow(Row):
    """A subclass with another name: in Icarus, a port cannot have its module's name."""


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_row(simulator: str) -> None:
    run_bench(OneRow(CONFIG), module=__name__, simulator=simulator)


def golden(level: Level, context: Token) -> list[Token]:
    """Return the tokens that a row gives for one."""
    child = [level.child(o, context.position[o]) for o in OPERANDS]
    blocks = [] if context.null else level.joined(context)
    return expand(context, blocks, child, level.cells, level.result)


def check(got: dict[str, Any], want: Token) -> None:
    """Compare a token, without the positions of a null token or an absent operand."""
    value = token_value(want)
    names = ("stop", "null", "fiber", "key") if want.null else ("present", "stop", "fiber", "key")
    for name in names:
        assert got[name] == value[name], f"{name}: {got} for {want}"
    assert got["null"] == want.null
    if not want.null:
        for o in OPERANDS:
            assert not want.present[o] or got["position"][o] == want.position[o], f"{got}: {want}"


def fibers(tokens: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the tokens fiber by fiber; each ends with the one that has a stop."""
    found: list[list[dict[str, Any]]] = [[]]
    for item in tokens:
        found[-1].append(item)
        if item["stop"]:
            found.append([])
    assert not found.pop(), "a fiber without an end"
    return found


@cocotb.test()
@cocotb.parametrize(trial=[0, 1, 2, 3], stall=[0.0, 0.4])
async def random_tokens(dut: Any, trial: int, stall: float) -> None:
    """Tokens, then the epoch changes: of tokens in flight, only the ends remain."""
    await bench.start(dut)
    rng = bench.rng()
    level = random_level(rng)
    dut.row.value = encode(ROW, level.row())
    Scanners(dut, level, bench.rng(), stall)
    source = Source(dut, "i", token(CONFIG), bench.rng(), stall)
    sink = Sink(dut, "o", token(CONFIG), bench.rng(), stall)
    sent: list[tuple[Token, int]] = []
    for epoch in (0, 1):
        dut.epoch.value = epoch
        for n in range(TOKENS):
            context = random_token(rng)
            # after the change, some stale ones come first
            its_epoch = int(epoch and n >= 8)
            await source.send(token_value(context) | {"epoch": its_epoch})
            sent.append((context, its_epoch))
    count = sum(len(golden(level, context)) for context, epoch in sent if epoch)
    while sum(item["stop"] > 0 for item in sink.received) < len(sent):
        await sink.wait_for(len(sink.received) + 1)
    await ClockCycles(dut.clk, 30)
    found = fibers(sink.received)
    live = cut = 0
    for got, (context, its_epoch) in zip(found, sent, strict=True):
        want = golden(level, context)
        assert all(item["epoch"] == its_epoch for item in got)
        assert got[-1]["stop"] == context.stop + 1
        if its_epoch:
            assert len(got) == len(want)
            live += len(got)
        elif got[-1]["null"] and not want[-1].null:
            cut += 1
            got = got[:-1]
        for one, other in zip(got, want, strict=bool(its_epoch)):
            check(one, other)
    assert live == count >= TOKENS - 8
    # at least those that arrived after the change
    assert cut or not any(len(golden(level, c)) > 1 for c, _ in sent[TOKENS : TOKENS + 8])


@cocotb.test()
@cocotb.parametrize(stall=[0.0, 0.4])
async def bypassed(dut: Any, stall: float) -> None:
    """Tokens pass unchanged, one per cycle, and no fiber is requested."""
    await bench.start(dut)
    rng = bench.rng()
    level = random_level(rng)
    dut.row.value = encode(ROW, level.row() | {"bypass": 1})
    scanners = Scanners(dut, level, bench.rng(), stall)
    source = Source(dut, "i", token(CONFIG), bench.rng(), stall)
    sink = Sink(dut, "o", token(CONFIG), bench.rng(), stall)
    values = [
        token_value(random_token(rng)) | {"epoch": rng.getrandbits(1)} for _ in range(2 * TOKENS)
    ]
    await source.send_all(values)
    await sink.wait_for(len(values))
    await ClockCycles(dut.clk, 20)
    assert sink.received == values
    assert not any(scanners.asked)
    if not stall:
        assert sink.cycles[-1] - sink.cycles[0] == len(values) - 1
