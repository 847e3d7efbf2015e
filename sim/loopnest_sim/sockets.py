"""A module of which the design has several instances, compiled as a model of its own.

Verilator would generate code for each instance. Instead, the instances in the design become sockets
(`Split.design`), modules without logic whose ports ``harness.cpp`` connects to as many objects of
the module's model (`Split.module`), as ``sockets.h`` describes.

A model is evaluated at the clock's edge, and again for what changed at its ports since. So that
only logic that depends on a change is evaluated again, ports belong to groups, and what enters by a
port comes from a variable that changes with an event of the port's group. An event is a change of
an input of the model.
"""

from dataclasses import dataclass

from loopnest_hw.modules import INSTANCE
from loopnest_hw.modules import MODULE as MODULES

from .modules import Port, module_ports, module_text
from .wrapper import WRAPPER

MODULE = "loopnest_module"
"""Name of the module around the one that is compiled by itself."""

CLOCK = "clk"


@dataclass(frozen=True)
class Split:
    """A design and a module of it as two designs.

    Attributes
    ----------
    design : str
        The design's Verilog, with sockets instead of the module's instances.
    events : tuple of str
        Inputs that the module around the design needs.
    module : str
        The Verilog of the module and of those below it, with `MODULE` around it.
    header : str
        C++ macros: lists of the ports and of the groups.
    """

    design: str
    events: tuple[str, ...]
    module: str
    header: str


def split(verilog_text: str, name: str) -> Split:
    """Return the design and its module of this name.

    Raises
    ------
    BuildError
        If there is no such module with an input ``clk``.
    """
    text = module_text(verilog_text, name)
    ports = [port for port in module_ports(verilog_text, name) if port.name != CLOCK]
    inputs = [port for port in ports if port.is_input]
    outputs = [port for port in ports if not port.is_input]
    return Split(
        design=verilog_text.replace(text, _socket(name, inputs, outputs)),
        events=tuple(_event(group) for group in _groups(outputs)),
        module=f"{_with_submodules(verilog_text, name)}{_module(name, inputs, outputs)}",
        header=_header(inputs, outputs),
    )


def _with_submodules(verilog_text: str, name: str) -> str:
    """Return the text of a module and of those below it, which other designs may have too."""
    texts = {match[1]: match[0] for match in MODULES.finditer(verilog_text)}
    found, todo = {name}, [name]
    while todo:
        below = {instance[1] for instance in INSTANCE.finditer(texts[todo.pop()])}
        new = (below & texts.keys()) - found
        found |= new
        todo += new
    return "".join(text for module, text in texts.items() if module in found)


def _group(port: Port) -> str:
    """Return the group of a port: its stream's or structure's name."""
    return port.name.split("__")[0]


def _groups(ports: list[Port]) -> list[str]:
    return sorted({_group(port) for port in ports})


def _plain(port: Port) -> str:
    """Return the port's name without double underscores, which Verilator replaces in C++."""
    return port.name.replace("__", "_")


def _event(group: str) -> str:
    return f"event_{group}"


def _on(event: str) -> str:
    return f"always @(posedge {event} or negedge {event})"


def _socket(name: str, inputs: list[Port], outputs: list[Port]) -> str:
    """Return the module that takes the instances' places."""
    lines = [f"module {name}({', '.join(port.name for port in (*inputs, *outputs))}, {CLOCK});"]
    lines += [f"  input {CLOCK};"]
    for p in inputs:
        lines += [
            f"  input {p.width}{p.name};",
            f"  wire {p.width}{_plain(p)}_shown /*verilator public_flat_rd*/ = {p.name};",
        ]
    for p in outputs:
        event = f"{WRAPPER}.{_event(_group(p))}"
        lines += [
            f"  output {p.width}{p.name};",
            f"  reg {p.width}{p.name};",
            f"  reg {p.width}{_plain(p)}_next /*verilator public_flat_rw*/;",
            f"  {_on(event)} {p.name} <= {_plain(p)}_next;",
        ]
    return "\n".join([*lines, "endmodule", ""])


def _module(name: str, inputs: list[Port], outputs: list[Port]) -> str:
    """Return the module around the module."""
    events = [_event(group) for group in _groups(inputs)]
    names = [_plain(port) for port in (*inputs, *outputs)]
    lines = [f"module {MODULE}({', '.join([*names, *events, CLOCK])});"]
    lines += [f"  input {event};" for event in (*events, CLOCK)]
    lines += [f"  output {p.width}{_plain(p)};" for p in outputs]
    for p in inputs:
        lines += [
            f"  input {p.width}{_plain(p)};",
            f"  reg {p.width}{_plain(p)}_now;",
            f"  {_on(_event(_group(p)))} {_plain(p)}_now <= {_plain(p)};",
        ]
    connections = [f".{p.name}({_plain(p)}_now)" for p in inputs]
    connections += [f".{p.name}({_plain(p)})" for p in outputs]
    lines += [f"  {name} {name} ({', '.join(connections)}, .{CLOCK}({CLOCK}));"]
    return "\n".join([*lines, "endmodule", ""])


def _header(inputs: list[Port], outputs: list[Port]) -> str:
    """Return the lists of ports, by group, and of the groups."""

    def entries(name: str, items: list[str]) -> str:
        return f"#define {name} " + " ".join(items)

    def numbered(ports: list[Port]) -> list[str]:
        groups = _groups(ports)
        ordered = sorted(ports, key=_group)
        return [f"PORT({_plain(port)}, {groups.index(_group(port))})" for port in ordered]

    return "\n".join(
        [
            "#pragma once",
            entries("SOCKET_INPUTS", numbered(inputs)),
            entries("SOCKET_OUTPUTS", numbered(outputs)),
            entries("INPUT_EVENTS", [f"EVENT({_event(g)})" for g in _groups(inputs)]),
            entries("OUTPUT_EVENTS", [f"EVENT({_event(g)})" for g in _groups(outputs)]),
            f'#define SOCKET_VARIABLE "{_plain(outputs[0])}_next"',
            "",
        ]
    )
