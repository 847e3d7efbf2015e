"""Components as the text of a netlist: Verilog, or Yosys's RTLIL."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amaranth.back import rtlil, verilog
from amaranth.hdl import Elaboratable


def to_verilog(component: Elaboratable, name: str, *, sources: bool = False) -> str:
    """Return the Verilog of a component, top module ``name``.

    ``sources`` marks each line with its source location. Without it, the text depends only on the
    design: the marks contain paths of this machine and change with every edit.
    """
    with _no_collection():
        text: str = verilog.convert(
            component, name=name, emit_src=sources, strip_internal_attrs=not sources
        )
    return text


def to_rtlil(component: Elaboratable, name: str, **arguments: Any) -> str:
    """Return the RTLIL of a component, top module ``name``; arguments as `rtlil.convert`'s."""
    with _no_collection():
        text: str = rtlil.convert(component, name=name, **arguments)
    return text


@contextmanager
def _no_collection() -> Iterator[None]:
    """Disable Python's garbage collection, which takes a third of the time of a conversion: it
    creates millions of objects and needs nearly all of them until its end.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
