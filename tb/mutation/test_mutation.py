"""Mutants are chosen, enabled and proved equivalent correctly; nothing is simulated here."""

from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from loopnest_hw.queue import Queue
from tb.harness import Run
from tb.mutation.equivalence import is_equivalent
from tb.mutation.mutants import (
    SELECT,
    Mutation,
    choose,
    finish_text,
    parse,
    write_mutants,
    write_netlist,
)
from tb.mutation.plan import UNITS, Design, benches_of, shares
from tb.mutation.results import Result, append_result, load_results, table_of
from tb.mutation.whole import counterparts, read_modules, write_chip_mutants


class Chain(wiring.Component):
    """Two queues, one after the other."""

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.first = first = Queue(8, 2)
        m.submodules.second = second = Queue(8, 2)
        wiring.connect(m, wiring.flipped(self.i), first.i)
        wiring.connect(m, first.o, second.i)
        wiring.connect(m, second.o, wiring.flipped(self.o))
        return m


class Masked(wiring.Component):
    """An `and` with itself, one input of which is redundant."""

    a: In(4)
    o: Out(4)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        copy = Signal(4)
        m.d.sync += copy.eq(self.a & 3)
        m.d.comb += self.o.eq(copy & (copy | self.a))
        return m


class Half(wiring.Component):
    """A module that does not use all of its input."""

    a: In(4)
    o: Out(2)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.o.eq(self.a)
        return m


class Whole(wiring.Component):
    """A register in front of a `Half`."""

    a: In(4)
    o: Out(2)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.half = half = Half()
        m.d.sync += half.a.eq(self.a)
        m.d.comb += self.o.eq(half.o)
        return m


def design_of(component: wiring.Component, top: str, bench: str) -> Design:
    text = rtlil.convert(component, name=top, emit_src=True)
    return Design(text, [Run(top, [], bench, {}, 1, None)])


@pytest.fixture(scope="module")
def queue() -> Design:
    return design_of(Queue(8, 2), "queue", "tb.test_queue")


@pytest.fixture(scope="module")
def chain() -> Design:
    return design_of(Chain(), "chain", "tb.test_chain")


def test_a_unit_is_mutated_in_its_own_bench(queue: Design, chain: Design) -> None:
    designs = {design.name: design for design in (chain, queue)}
    assert benches_of(designs) == {"queue": [queue.name]}
    assert benches_of({chain.name: chain}) == {"queue": [chain.name]}
    (share,) = shares(designs, 10)
    assert (share.unit, share.design, share.modules, share.count) == (
        "queue", queue.name, ["queue"], 10,
    )  # fmt: skip


def test_source_lines_do_not_count_in_a_name(queue: Design) -> None:
    moved = Design(queue.text.replace("queue.py:", "queue.py:1"), queue.runs)
    assert moved.text != queue.text and moved.name == queue.name
    assert Design(queue.text.replace("and", "or"), queue.runs).name != queue.name


def test_mutants_are_switched_on_by_a_number(queue: Design, tmp_path: Path) -> None:
    write_netlist(tmp_path, queue.text)
    mutations = choose(tmp_path, ["queue"], 5, seed=3)
    assert mutations == choose(tmp_path, ["queue"], 5, seed=3)
    assert len(set(mutations)) == 5
    assert {mutation.module for mutation in mutations} == {"queue"}
    text = write_mutants(tmp_path, mutations)
    assert '$value$plusargs("mutant=%d"' in text
    assert f"input [15:0] {SELECT}" not in text and f", {SELECT}," not in text
    assert [f"16'h{number:04x}" in text for number in range(1, 7)] == [*[True] * 5, False]


def test_a_mutant_is_put_into_every_copy_in_the_chip(
    queue: Design, chain: Design, tmp_path: Path
) -> None:
    unit, chip = tmp_path / "unit", tmp_path / "chip"
    for folder, design in ((unit, queue), (chip, chain)):
        folder.mkdir()
        write_netlist(folder, design.text)
    modules = [read_modules((folder / "netlist.il").read_text()) for folder in (unit, chip)]
    (mutation,) = choose(unit, ["queue"], 1, seed=1)
    places = [*counterparts(modules[0], mutation, modules[1])]
    assert [place.module for place in places] == ["chain.first", "chain.second"]
    text = write_chip_mutants(chip, [places])
    heads = text.split("module ")
    assert [SELECT in part for part in heads if part.startswith("\\chain.")] == [True, True]
    assert f".{SELECT}" not in text


@pytest.mark.parametrize("gap", ["", "\n"])
def test_a_list_of_ports_may_be_broken(gap: str) -> None:
    text = f"module a(x, {gap}{SELECT}{gap});\n  input x;\nendmodule\n"
    assert finish_text(text) == f"module a(x{gap});\n  input x;\nendmodule\n"


def test_parse() -> None:
    line = (
        f"mutate -mode cnot1 -module row.a -cell $5 -port D -portbit 3 -ctrlbit 2 -wire x$1 "
        f"-wirebit 3 -src /lib/amaranth/x.py:3 -src {UNITS}/row/joiner.py:81"
    )
    mutation = parse(line)
    assert mutation.options == "-mode cnot1 -module row.a -cell $5 -port D -portbit 3 -ctrlbit 2"
    assert (mutation.wire, mutation.source) == ("x$1[3]", "row/joiner.py:81")
    assert (mutation.mode, mutation.module) == ("cnot1", "row.a")


def test_equivalence(tmp_path: Path) -> None:
    (tmp_path / "netlist.il").write_text("")
    write_netlist(tmp_path, rtlil.convert(Masked(), name="masked", emit_src=True))
    netlist = (tmp_path / "netlist.il").read_text()
    (cell,) = (line.split()[2] for line in netlist.split("\n") if "cell $or" in line)
    options = f"-mode inv -module masked -cell {cell} -port"
    # bits added by the `or` are masked by the `and`
    assert is_equivalent(tmp_path, Mutation(f"{options} B -portbit 0", "", ""))
    assert not is_equivalent(tmp_path, Mutation(f"{options} Y -portbit 0", "", ""))


def test_what_a_part_does_not_read_is_equivalent(tmp_path: Path) -> None:
    write_netlist(tmp_path, rtlil.convert(Whole(), name="whole", emit_src=True))
    for mode in ("inv", "const0", "const1"):
        options = f"-mode {mode} -module whole -cell half -port a -portbit"
        assert is_equivalent(tmp_path, Mutation(f"{options} 2", "", ""))
        assert not is_equivalent(tmp_path, Mutation(f"{options} 1", "", ""))


def test_results_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert load_results(path) == {}
    first = Result("row/ones", "ones-1", "-mode inv", "", "row/ones.py:3", "survived", "", 1.0)
    second = Result("row/ones", "ones-1", "-mode const0", "", "row/ones.py:4", "bench", "x", 1.0)
    for result in (first, second):
        append_result(path, result)
    assert list(load_results(path).values()) == [first, second]
    table = table_of(load_results(path).values())
    assert [list(column.cells)[-1] for column in table.columns] == [
        "all", "2", "1", "0", "0", "1", "50.0%",
    ]  # fmt: skip
