"""Designs as text, and conversions that do not end."""

import gc
import warnings
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from loopnest_hw.generate import to_rtlil, to_verilog


class Stopped(wiring.Component):
    """Is interrupted when it has made a component that it has not used yet."""

    def __init__(self) -> None:
        super().__init__({"o": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        self.made = [Unused()]
        raise KeyboardInterrupt


class Unused(wiring.Component):
    """Has a port and nothing else."""

    o: Out(1)

    def elaborate(self, platform: Any) -> Module:
        return Module()


@pytest.mark.parametrize("convert", [to_verilog, to_rtlil])
def test_an_interrupt_gives_no_warnings(convert: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(KeyboardInterrupt):
            convert(Stopped(), "top")
        gc.collect()
    assert not caught
    assert gc.isenabled()
