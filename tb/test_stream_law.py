"""The stream law on the outputs of every unit whose own bench does not prove it.

Small configurations: the law does not depend on widths and depths. A proof is for all times, by
induction, but for the outputs that say how far they are searched.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from amaranth.hdl import Assume, Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

import loopnest_hw
from loopnest_hw.accumulate.accumulator import Accumulator
from loopnest_hw.accumulate.drain import Drain
from loopnest_hw.accumulate.eviction import Eviction
from loopnest_hw.accumulate.table import Table
from loopnest_hw.chip.command import CommandProcessor
from loopnest_hw.config import make_config
from loopnest_hw.dispatcher import Dispatcher
from loopnest_hw.leaf.addresser import Addresser
from loopnest_hw.leaf.lanes import Lanes
from loopnest_hw.leaf.leaf import Leaf
from loopnest_hw.leaf.placer import Placer
from loopnest_hw.result.combiner import Combiner
from loopnest_hw.result.epilogue import Epilogue
from loopnest_hw.result.line_builder import LineBuilder
from loopnest_hw.result.output import ResultPath
from loopnest_hw.row.front import RowFront
from loopnest_hw.row.ones import Ones
from loopnest_hw.row.row import Row
from loopnest_hw.stream.bank import StreamBank
from loopnest_hw.stream.pool import LinePool
from loopnest_hw.stream.scanner import Scanner
from tb.formal import prove_stream_law

CONFIG = make_config("shrunk", "int8", multipliers=1, operands=2, streams=4, pool_lines=16)


@dataclass(frozen=True, kw_only=True)
class Law:
    """A proof of some outputs' law.

    ``inputs``: streams that keep the law themselves; ``constant``: inputs that do not change, by
    the beginning of their names.
    ``search``: cycles that are searched, for outputs without an induction.
    """

    unit: Callable[[], wiring.Component]
    outputs: Sequence[str]
    inputs: Sequence[str] = ()
    constant: Sequence[str] = ()
    search: int = 0


def per_operand(name: str) -> list[str]:
    return [f"{name}__{o}" for o in range(CONFIG.operands)]


SCANNER = {"inputs": ["i"], "constant": ["open", "table", "blocks", "position_ring", "block_ring"]}
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
        unit=lambda: Dispatcher(CONFIG), outputs=["o", "request"], constant=["kernel"]
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
    # What lines arrive at a gather, and when, is the pool's business: no induction goes through
    # where they could be any.
    "Scanner": Law(
        unit=lambda: Scanner(CONFIG),
        outputs=["o", "position_pool__request", "block_pool__request"],
        **SCANNER,
    ),
    "Scanner's takes": Law(
        unit=lambda: Scanner(CONFIG),
        outputs=["position_pool__take", "block_pool__take"],
        search=8,
        **SCANNER,
    ),
    "StreamBank": Law(
        unit=lambda: StreamBank(CONFIG, scanners=1, values=1, epilogue=True, lines=16),
        outputs=["request", "scan__0__o"],
        inputs=["scan__0__i", "value__0__i", "epilogue__i"],
        constant=["ring", "scan__0__open", "scan__0__table", "scan__0__blocks"],
    ),
    "Table": Law(
        unit=lambda: Table(CONFIG),
        outputs=["found", "retired"],
        inputs=["lookup"],
        constant=["replayable"],
    ),
    "Drain": Law(unit=lambda: Drain(CONFIG), outputs=["o"]),
    # It has a credit of entries, which a state that cannot be might lose while a walk waits.
    "Drain's walk": Law(unit=lambda: Drain(CONFIG), outputs=["walk"], search=8),
    "Eviction": Law(unit=lambda: Eviction(CONFIG), outputs=["walk"]),
    "Accumulator": Law(
        unit=lambda: Accumulator(CONFIG),
        outputs=["found", "o", "retired"],
        inputs=["lookup", "terms"],
        constant=["replayable"],
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
        unit=lambda: LineBuilder(chunk_bytes=4, unit_bytes=4),
        outputs=["o"],
        inputs=["i"],
        constant=["base", "room"],
    ),
    # The writer's choice between its builders wants an invariant.
    "ResultPath": Law(
        unit=lambda: ResultPath(CONFIG),
        outputs=["o", "request"],
        inputs=["i", "reply"],
        constant=["result", "epilogue"],
        search=5,
    ),
    # More replies than requests would overwrite what is asked for.
    "CommandProcessor": Law(unit=lambda: CommandProcessor(CONFIG), outputs=["request"], search=12),
}


OWN_BENCH = {
    *("Queue", "Fork", "Joiner", "Expander", "ReplayBuffer", "Gather"),
    *("Scatter", "Former", "Dot", "Assembler", "Filler", "Writer"),
}
"""Units whose own bench has the proof."""

GATHERS = {"StreamBank": {"value__0__o", "epilogue__o"}}
"""Outputs that are those of a gather inside, as they are."""

PARTS = {"PE"}
"""Units whose outputs are those of their parts, which are here."""


@pytest.mark.parametrize("name", LAWS)
def test_stream_law(name: str) -> None:
    law = LAWS[name]

    def constant(m: Module, unit: Any) -> None:
        values = [value for path, _, value in ports(unit) if path.startswith(tuple(law.constant))]
        chosen = Cat(*values)
        before = Signal(len(chosen))
        settled = Signal()
        m.d.sync += [before.eq(chosen), settled.eq(1)]
        m.d.comb += Assume(~settled | (before == chosen))

    prove_stream_law(
        law.unit(),
        outputs=law.outputs,
        inputs_assumed=law.inputs,
        depth=law.search or 1,
        induction=not law.search,
        properties=constant if law.constant else None,
    )


def ports(unit: wiring.Component) -> list[tuple[str, Any, Value]]:
    """Return a unit's ports: name, direction and value."""
    flat = unit.signature.flatten(unit)
    return [("__".join(map(str, path)), port.flow, Value.cast(value)) for path, port, value in flat]


def output_streams(unit: wiring.Component) -> set[str]:
    """Return the names of a unit's output streams."""
    flows = {name: flow for name, flow, _ in ports(unit)}
    outputs = {name.removesuffix("__valid") for name, flow in flows.items() if flow is Out}
    return {name for name in outputs if flows.get(f"{name}__ready") is In}


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_nothing_is_left_out() -> None:
    """Every output stream of every unit has its proof, here or in the unit's bench."""
    proved: dict[str, set[str]] = {}
    units: dict[str, wiring.Component] = {}
    for law in LAWS.values():
        unit = law.unit()
        units[type(unit).__name__] = unit
        proved.setdefault(type(unit).__name__, set()).update(law.outputs)
    for name, unit in units.items():
        assert output_streams(unit) == proved[name] | GATHERS.get(name, set()), name
    names = set()
    for info in pkgutil.walk_packages(loopnest_hw.__path__, "loopnest_hw."):
        for name, unit_class in vars(importlib.import_module(info.name)).items():
            is_unit = inspect.isclass(unit_class) and issubclass(unit_class, wiring.Component)
            its_own = is_unit and unit_class.__module__ == info.name
            if its_own and "Out(stream.Signature" in inspect.getsource(unit_class):
                names.add(name)
    assert names == set(units) | OWN_BENCH | PARTS
