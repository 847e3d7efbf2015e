"""Components as the text of a netlist: Verilog, or Yosys's RTLIL."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from amaranth.back import rtlil, verilog
from amaranth.hdl import (
    ClockSignal,
    Elaboratable,
    Instance,
    Module,
    ResetSignal,
    UnusedElaboratable,
    Value,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In

_modules: ContextVar[dict[str, wiring.Component] | None] = ContextVar("modules", default=None)
"""The modules of which the design that is being converted has instances."""


class SharedModule(wiring.Component):
    """An instance of a component that has several: its module is generated once, by `to_verilog`.

    Parameters
    ----------
    component : wiring.Component
    name : str
        Of the module. Components of one name must be equal.
    reset : Value
        Resets the component, in addition to the domain's reset.
    """

    def __init__(self, component: wiring.Component, name: str, *, reset: Value) -> None:
        self._component = component
        self._name = name
        self._reset = reset
        super().__init__(component.signature)

    def elaborate(self, platform: Any) -> Module:
        modules = _modules.get()
        if modules is None:
            raise ValueError(f"module {self._name!r}: expected a conversion by to_verilog")
        modules.setdefault(self._name, self._component)
        ports: dict[str, Value] = {
            "i_clk": ClockSignal(),
            "i_rst": ResetSignal() | self._reset,
        }
        for path, member, value in self.signature.flatten(self):
            direction = "i" if member.flow is In else "o"
            ports[f"{direction}_{'__'.join(map(str, path))}"] = Value.cast(value)
        m = Module()
        m.submodules.instance = Instance(self._name, **ports)
        return m


def to_verilog(component: Elaboratable, name: str, *, sources: bool = False) -> str:
    """Return the Verilog of a component, top module ``name``.

    ``sources`` marks each line with its source location. Without it, the text depends only on the
    design: the marks contain paths of this machine and change with every edit.
    """

    def convert(part: Elaboratable, name: str) -> str:
        text: str = verilog.convert(
            part, name=name, emit_src=sources, strip_internal_attrs=not sources
        )
        return text

    modules: dict[str, wiring.Component] = {}
    token = _modules.set(modules)
    try:
        with _converting():
            texts = [convert(component, name)]
            texts += [convert(part, name) for name, part in modules.items()]
    finally:
        _modules.reset(token)
    return "\n".join(texts)


def to_rtlil(component: Elaboratable, name: str, **arguments: Any) -> str:
    """Return the RTLIL of a component, top module ``name``; arguments as `rtlil.convert`'s."""
    with _converting():
        text: str = rtlil.convert(component, name=name, **arguments)
    return text


@contextmanager
def _converting() -> Iterator[None]:
    """Disable Python's garbage collection, which takes a third of the time of a conversion: it
    creates millions of objects and needs nearly all of them until its end.

    An exception, such as `KeyboardInterrupt`, leaves components that nothing uses: Amaranth's
    warnings about them are ignored from then on, as it does itself where the exception ends the
    process.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    except BaseException:
        warnings.simplefilter("ignore", UnusedElaboratable)
        raise
    finally:
        if collects:
            gc.enable()
