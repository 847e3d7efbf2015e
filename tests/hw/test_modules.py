"""Equal modules are written once."""

import re
from typing import Any

import pytest
from amaranth.back import verilog
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from loopnest_hw.modules import share_modules


class Counter(wiring.Component):
    """Counts up by a step."""

    def __init__(self, step: int) -> None:
        self._step = step
        super().__init__({"enable": In(1), "o": Out(8)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        with m.If(self.enable):
            m.d.sync += self.o.eq(self.o + self._step)
        return m


class Pair(wiring.Component):
    """Two counters."""

    def __init__(self, first: int, second: int) -> None:
        self._steps = first, second
        super().__init__({"enable": In(1), "o": Out(8)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        counters = [Counter(step) for step in self._steps]
        for n, counter in enumerate(counters):
            m.submodules[f"counter_{n}"] = counter
            m.d.comb += counter.enable.eq(self.enable)
        m.d.comb += self.o.eq(sum(counter.o for counter in counters))
        return m


class Pairs(wiring.Component):
    """A pair for each of these steps."""

    def __init__(self, *steps: tuple[int, int]) -> None:
        self._steps = steps
        super().__init__({"enable": In(1), "o": Out(8)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for n, steps in enumerate(self._steps):
            m.submodules[f"pair_{n}"] = pair = Pair(*steps)
            m.d.comb += pair.enable.eq(self.enable)
            m.d.sync += self.o.eq(self.o ^ pair.o)
        return m


def modules(*steps: tuple[int, int]) -> tuple[list[str], list[str]]:
    """Return the modules of the text and what they instantiate."""
    text = share_modules(
        verilog.convert(Pairs(*steps), emit_src=False, strip_internal_attrs=True), "top"
    )
    names = re.findall(r"^module ([^\s(]+)", text, re.MULTILINE)
    return names, re.findall(r"^  (\\\S+) +\S+ \($", text, re.MULTILINE)


def test_equal_modules_are_one() -> None:
    names, instances = modules((1, 1), (1, 1))
    assert names == ["top", r"\top.pair_0", r"\top.pair_0.counter_0"]
    assert instances == [r"\top.pair_0"] * 2 + [r"\top.pair_0.counter_0"] * 2


def test_different_modules_stay() -> None:
    names, _ = modules((1, 2), (1, 2))
    assert len(names) == 4
    # what differs below differs above
    names, instances = modules((1, 1), (1, 2))
    assert names == [
        "top",
        *(r"\top.pair_0", r"\top.pair_0.counter_0"),
        *(r"\top.pair_1", r"\top.pair_1.counter_1"),
    ]
    assert instances.count(r"\top.pair_0.counter_0") == 3


def test_no_such_top() -> None:
    with pytest.raises(ValueError, match="top 'chip': no such module"):
        share_modules("module top(a);\nendmodule\n", "chip")
