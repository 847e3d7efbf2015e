"""The stream law on the outputs of every unit whose own bench does not prove it.

The configurations are small: the law does not depend on widths and depths. Every proof is by
induction, without a bound on time.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from amaranth.hdl import Assume, Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

import loopnest_hw
from loopnest_hw.accumulate.accumulator import Accumulator
from loopnest_hw.accumulate.directory import Directory
from loopnest_hw.accumulate.drain import Drain
from loopnest_hw.accumulate.eviction import Eviction
from loopnest_hw.accumulate.table import Table
from loopnest_hw.accumulate.words import Words
from loopnest_hw.cache.bank import Bank
from loopnest_hw.cache.crossbar import Crossbar
from loopnest_hw.cache.geometry import CacheConfig
from loopnest_hw.cache.misses import Misses
from loopnest_hw.cache.waiters import Waiters
from loopnest_hw.chip.axi import read_clients
from loopnest_hw.chip.command import CommandProcessor
from loopnest_hw.chip.fetch import DescriptorFetch
from loopnest_hw.chip.initialise import Initialiser
from loopnest_hw.chip.memory_port import ReadPort, WritePort
from loopnest_hw.chip.registers import RegisterFile
from loopnest_hw.chip.snapshot import SnapshotWriter
from loopnest_hw.chip.write_arbiter import WriteArbiter
from loopnest_hw.config import make_config
from loopnest_hw.dispatch.dispatcher import Dispatcher
from loopnest_hw.dispatch.pairs import Pairs
from loopnest_hw.dispatch.weigher import Weigher
from loopnest_hw.leaf.addresser import Addresser
from loopnest_hw.leaf.lanes import Lanes
from loopnest_hw.leaf.leaf import Leaf
from loopnest_hw.leaf.placer import Placer
from loopnest_hw.result.combiner import Combiner
from loopnest_hw.result.epilogue import Epilogue
from loopnest_hw.result.line_builder import LineBuilder
from loopnest_hw.result.writer import Writer
from loopnest_hw.row.front import RowFront
from loopnest_hw.row.ones import Ones
from loopnest_hw.row.row import Row
from loopnest_hw.stream.bank import StreamBank
from loopnest_hw.stream.block_reader import BlockReader
from loopnest_hw.stream.line_reader import LineReader
from loopnest_hw.stream.line_store import LineStore
from loopnest_hw.stream.pool import LinePool
from loopnest_hw.stream.scanner import Scanner
from tb.formal import Contract, prove_stream_law

CONFIG = make_config("shrunk", "int8", multipliers=1, operands=2, streams=4, pool_lines=16)
SEVERAL = replace(CONFIG, pes=2)

CACHE = CacheConfig(
    clients=2,
    slot_bits=1,
    banks=2,
    ports=1,
    sets=2,
    ways=2,
    waiters=2,
    window=2,
    lanes=1,
    epoch_bits=1,
    line_bits=4,
)


@dataclass(frozen=True, kw_only=True)
class Law:
    """A proof of some outputs' law.

    ``inputs``: streams that are assumed to obey the law; ``constant``: prefixes of inputs that do
    not change, ``steady``: only while an output waits; ``assume``: further assumptions; ``parts``:
    units inside of which only the law is used, which is proved here; ``depth``: length of the
    induction.
    """

    unit: Callable[[], wiring.Component]
    outputs: Sequence[str]
    inputs: Sequence[str] = ()
    constant: Sequence[str] = ()
    steady: Sequence[str] = ()
    parts: Sequence[type[wiring.Component]] = ()
    assume: Callable[[Any], Value] | None = None
    depth: int = 1


def per_operand(name: str) -> list[str]:
    return [f"{name}__{o}" for o in range(CONFIG.operands)]


PORT = ("request", "take")
"""A pool client's outputs."""

LAWS = {
    "Ones": Law(unit=Ones, outputs=["o"], inputs=["i"], constant=["size"]),
    "RowFront": Law(
        unit=lambda: RowFront(CONFIG, 1),
        outputs=[*per_operand("request"), "o", "context"],
        inputs=["i", *per_operand("blocks")],
        constant=["row"],
    ),
    "Row": Law(
        unit=lambda: Row(CONFIG),
        outputs=[*per_operand("request"), "o"],
        inputs=["i", *per_operand("blocks")],
        constant=["row"],
    ),
    "Dispatcher": Law(
        unit=lambda: Dispatcher(CONFIG), outputs=["o__0", "request"], constant=["kernel"]
    ),
    "Dispatcher of two PEs": Law(
        unit=lambda: Dispatcher(SEVERAL),
        outputs=["o__0", "o__1", "request"],
        constant=["kernel"],
    ),
    "Pairs": Law(unit=lambda: Pairs(8), outputs=["o"], inputs=["i"]),
    "Weigher": Law(
        unit=lambda: Weigher(SEVERAL),
        outputs=["request", "o"],
        inputs=["i", "reply"],
        constant=["kernel"],
    ),
    "Lanes": Law(
        unit=lambda: Lanes(CONFIG, 1),
        outputs=["o"],
        inputs=["i"],
        constant=["op1", "op2", "wide", "negate"],
    ),
    "Addresser": Law(
        unit=lambda: Addresser(CONFIG), outputs=["o"], inputs=["i"], constant=["kernel"]
    ),
    "Placer": Law(
        unit=lambda: Placer(CONFIG),
        outputs=["o", "lookup", "retired"],
        inputs=["i", "context", "found"],
        constant=["kernel"],
    ),
    "Leaf": Law(
        unit=lambda: Leaf(CONFIG),
        outputs=["lookup", "retired", "o", *per_operand("request")],
        inputs=["i", "context", "found", *per_operand("reply")],
        constant=["kernel"],
    ),
    "LinePool": Law(
        unit=lambda: LinePool(CONFIG, streams=3, lines=16),
        outputs=["request"],
        inputs=[f"client__{n}__request" for n in range(3)],
    ),
    "LineReader": Law(
        unit=lambda: LineReader(CONFIG),
        outputs=["o", *(f"pool__{port}" for port in PORT)],
        inputs=["i"],
    ),
    "LineStore": Law(
        unit=lambda: LineStore(CONFIG, 2),
        outputs=["o", *(f"pool__{port}" for port in PORT)],
        inputs=["i"],
    ),
    "BlockReader": Law(
        unit=lambda: BlockReader(CONFIG),
        outputs=["o", *(f"pool__{port}" for port in PORT)],
        inputs=["i"],
    ),
    "Scanner": Law(
        unit=lambda: Scanner(CONFIG),
        outputs=["o", *(f"{name}_pool__{port}" for name in ("position", "block") for port in PORT)],
        inputs=["i"],
        constant=["open", "table", "blocks"],
    ),
    "StreamBank": Law(
        unit=lambda: StreamBank(CONFIG, scanners=1, values=1, words=2, lines=16),
        outputs=["request", "scan__0__o", "value__0__o", "words__o"],
        inputs=["scan__0__i", "value__0__i", "words__i"],
        constant=["scan__0__open", "scan__0__table", "scan__0__blocks"],
    ),
    "Table": Law(
        unit=lambda: Table(CONFIG),
        outputs=["found", "retired"],
        inputs=["lookup"],
        constant=["replayable"],
    ),
    "Directory": Law(unit=lambda: Directory(CONFIG), outputs=["word"]),
    "Words": Law(unit=lambda: Words(CONFIG), outputs=["mask"]),
    "Drain": Law(unit=lambda: Drain(CONFIG), outputs=["o", "walk"], constant=["pairs"]),
    # the directory holds the word while its blocks leave
    "Eviction": Law(unit=lambda: Eviction(CONFIG), outputs=["walk"], constant=["top"]),
    "Accumulator": Law(
        unit=lambda: Accumulator(CONFIG),
        outputs=["found", "o", "retired"],
        inputs=["lookup", "terms"],
        constant=["replayable", "pairs"],
    ),
    "Combiner": Law(
        unit=lambda: Combiner(CONFIG), outputs=["o"], inputs=["i"], constant=["copies"]
    ),
    "Epilogue": Law(
        unit=lambda: Epilogue(CONFIG),
        outputs=["o", "request"],
        inputs=["i", "reply"],
        constant=["settings", "narrow"],
    ),
    "LineBuilder": Law(
        unit=lambda: LineBuilder(chunk_bytes=4, unit_bytes=4, waiting=2),
        outputs=["o"],
        inputs=["i"],
        steady=["base", "room"],
    ),
    "Writer": Law(
        unit=lambda: Writer(CONFIG),
        outputs=["o"],
        inputs=["i"],
        constant=["result"],
        parts=[LineBuilder],
    ),
    # It withdraws a request on a memory timeout, so the bus is assumed to make progress.
    "CommandProcessor": Law(
        unit=lambda: CommandProcessor(CONFIG),
        outputs=["request"],
        assume=lambda unit: unit.bus_moves | ~unit.bus_due,
        depth=2,
    ),
    # Both withdraw what waits at a stop, which is a memory timeout.
    "DescriptorFetch": Law(
        unit=lambda: DescriptorFetch(CONFIG),
        outputs=["request"],
        assume=lambda unit: ~unit.stop & ~((unit.start | unit.ahead) & unit.busy),
    ),
    "SnapshotWriter": Law(
        unit=lambda: SnapshotWriter(CONFIG),
        outputs=["o"],
        constant=["content"],
        assume=lambda unit: ~unit.stop & ~(unit.start & unit.busy),
    ),
    "Initialiser": Law(
        unit=lambda: Initialiser(CONFIG), outputs=["o"], inputs=["i"], constant=["result"]
    ),
    # A PE withdraws its line when it is reset.
    "WriteArbiter": Law(unit=lambda: WriteArbiter(SEVERAL), outputs=["o"]),
    # Its clients may withdraw requests. It drops an answer only when it gives up what is in flight.
    "ReadPort of a cache": Law(
        unit=lambda: ReadPort(SEVERAL),
        outputs=["bus__ar", "reply__1"],
        assume=lambda unit: ~unit.forget,
    ),
    "ReadPort": Law(
        unit=lambda: ReadPort(CONFIG),
        outputs=["bus__ar", "reply__2"],
        assume=lambda unit: ~unit.forget,
    ),
    "WritePort": Law(unit=lambda: WritePort(CONFIG), outputs=["bus__aw", "bus__w"], inputs=["i"]),
    # Clients of the cache may withdraw requests.
    "Crossbar": Law(unit=lambda: Crossbar(CACHE), outputs=["o__0", "o__1"], inputs=["prefetch__0"]),
    # A waiter is not taken in the first cycle in which it is valid.
    "Waiters": Law(unit=lambda: Waiters(replace(CACHE, waiters=4)), outputs=["o"]),
    "Bank": Law(unit=lambda: Bank(CACHE), outputs=["misses"]),
    "Misses": Law(unit=lambda: Misses(CACHE, 0), outputs=["o"], inputs=["i__0", "i__1"]),
    "RegisterFile": Law(unit=lambda: RegisterFile(CONFIG), outputs=["bus__b", "bus__r"]),
}


OUTPUT = r"Out\((stream\.Signature|axi_)|In\(AXI"
"""How a unit's source text shows that it has an output stream or a bus."""

OWN_BENCH = {
    *("Queue", "SkidBuffer", "Fork", "Joiner", "Expander", "ReplayBuffer", "Gather"),
    *("Scatter", "Former", "Dot", "Assembler", "Filler", "Distributor", "Prefetcher"),
}
"""Units whose own bench contains the proof."""

GRANTED = {"ReadPort": {f"reply__{n}" for n in range(len(read_clients(CONFIG)) - 1)}}
"""Outputs whose ``ready`` is always high."""

ALL_GRANTED = {"Replies"}
"""Units all of whose outputs have a ``ready`` that is always high."""

PARTS = {"PE", "ResultPath", "Cache", "MemoryInterface", "WritePath"}
"""Units whose outputs are those of their parts, which are proved here. (So are the chip's outputs,
which are not declared as streams.)
"""


@pytest.mark.parametrize("name", LAWS)
def test_stream_law(name: str) -> None:
    law = LAWS[name]

    def assumptions(m: Module, unit: Any) -> None:
        if law.assume is not None:
            m.d.comb += Assume(law.assume(unit))
        values = [value for path, _, value in ports(unit) if path.startswith(tuple(law.constant))]
        chosen = Cat(*values)
        before = Signal(len(chosen), reset_less=True)
        settled = Signal(reset_less=True)
        m.d.sync += [before.eq(chosen), settled.eq(1)]
        m.d.comb += Assume(~settled | (before == chosen))

    prove_stream_law(
        law.unit(),
        outputs=law.outputs,
        inputs_assumed=law.inputs,
        steady=law.steady,
        parts={part: contract(LAWS[part.__name__]) for part in law.parts},
        depth=law.depth,
        properties=assumptions,
    )


def contract(law: Law) -> Contract:
    """Return what the proof shows of a unit."""
    assert not (law.constant or law.assume), "a contract has no such assumptions"
    return Contract(outputs=law.outputs, inputs=law.inputs, steady=law.steady)


def ports(unit: wiring.Component) -> list[tuple[str, Any, Value]]:
    """Return a unit's ports: name, direction and value."""
    flat = unit.signature.flatten(unit)
    return [("__".join(map(str, path)), port.flow, Value.cast(value)) for path, port, value in flat]


def output_streams(unit: wiring.Component) -> set[str]:
    """Return the names of a unit's output streams, and of the channels of its buses."""
    flows = {name: flow for name, flow, _ in ports(unit)}
    outputs = {name.removesuffix("valid") for name, flow in flows.items() if flow is Out}
    return {name.removesuffix("__") for name in outputs if flows.get(f"{name}ready") is In}


def test_every_output_is_proved() -> None:
    """Every output stream of every unit has its proof, here or in the unit's bench."""
    proved: dict[str, set[str]] = {}
    units: dict[str, wiring.Component] = {}
    for law in LAWS.values():
        unit = law.unit()
        units[type(unit).__name__] = unit
        proved.setdefault(type(unit).__name__, set()).update(law.outputs)
    for name, unit in units.items():
        assert output_streams(unit) == proved[name] | GRANTED.get(name, set()), name
    names = set()
    for info in pkgutil.walk_packages(loopnest_hw.__path__, "loopnest_hw."):
        for name, unit_class in vars(importlib.import_module(info.name)).items():
            is_unit = inspect.isclass(unit_class) and issubclass(unit_class, wiring.Component)
            its_own = is_unit and unit_class.__module__ == info.name
            if its_own and re.search(OUTPUT, inspect.getsource(unit_class)):
                names.add(name)
    assert names == set(units) | OWN_BENCH | ALL_GRANTED | PARTS
