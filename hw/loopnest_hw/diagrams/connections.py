"""A unit's inside, as its elaboration gives it: the units in it and what connects them.

The units inside are elaborated as black boxes, so that nothing below them is generated. Connections
are then traced in the RTLIL of what is left, from each input back to the outputs it comes from.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from amaranth.hdl import Instance
from amaranth.lib import stream, wiring

from ..generate import to_rtlil

PACKAGE = __package__.rpartition(".")[0]

BUS_PORTS = 5
"""From so many ports with a common prefix on, the ports of the unit are a bus."""


@dataclass(frozen=True)
class Box:
    """A unit inside, or several equal ones."""

    name: str
    count: int
    file: str
    """Path below the package; empty for a memory."""


@dataclass(frozen=True)
class Link:
    """A connection of two boxes; None is the outside.

    ``labels`` are the names of its ports, where they say more than ``i`` and ``o``.
    """

    source: str | None
    target: str | None
    labels: tuple[str, ...]
    is_stream: bool
    is_main: bool = False
    """Whether it is a stream from an ``o`` or to an ``i``: the way of the data."""


@dataclass(frozen=True)
class Inside:
    """The boxes of a unit, in the order of their declaration, and their links."""

    boxes: tuple[Box, ...]
    links: tuple[Link, ...]


@dataclass(frozen=True)
class _Port:
    """An end of a connection: the box's name in the netlist, or None, and the port's."""

    box: str | None
    name: str


@dataclass
class _Stream:
    label: str
    is_source: bool
    payload: _Port
    valid: _Port


@dataclass
class _Netlist:
    """Signals with what they depend on, in data alone and in control too."""

    data: dict[Any, set[Any]] = field(default_factory=dict)
    control: dict[Any, set[Any]] = field(default_factory=dict)
    cells: list[tuple[str, str]] = field(default_factory=list)
    inputs: dict[_Port, set[str]] = field(default_factory=dict)
    directions: dict[str, dict[str, str]] = field(default_factory=dict)

    def depend(self, target: Any, sources: set[Any], *, control: bool = False) -> None:
        (self.control if control else self.data).setdefault(target, set()).update(sources)

    def sources(self, port: _Port, *, control: bool) -> set[_Port]:
        """Return the ports that an input depends on."""
        left, seen = list(self.inputs.get(port, ())), set[Any]()
        while left:
            node = left.pop()
            if node in seen:
                continue
            seen.add(node)
            if not isinstance(node, _Port):
                left += self.data.get(node, ())
                left += self.control.get(node, ()) if control else ()
        return {node for node in seen if isinstance(node, _Port)}


def inside(unit: wiring.Component) -> Inside:
    """Return what a unit consists of. The unit must be new: it is elaborated."""
    with _black_boxes(type(unit)) as boxes:
        text = to_rtlil(unit, "top", emit_src=False)
    netlist = _read(text, boxes)
    components = {name: boxes.get(kind) for kind, name in netlist.cells}
    groups = _groups(components)
    streams = [s for name, c in components.items() if c for s in _streams(name, c.signature)]
    outer = list(_streams(None, unit.signature))
    links: dict[tuple[str | None, str | None, str | None], set[str]] = {}
    main = set[tuple[str | None, str | None, str | None]]()

    def link(source: str | None, target: str | None, labels: set[str], stream: str | None) -> None:
        ends = (groups.get(source, source), groups.get(target, target))
        if ends[0] != ends[1]:
            links.setdefault((*ends, stream), set()).update(labels)

    feeding = [s for s in streams if s.is_source] + [s for s in outer if not s.is_source]
    by_payload = {s.payload: s for s in feeding}
    for target in [s for s in streams if not s.is_source] + [s for s in outer if s.is_source]:
        starts = netlist.sources(target.valid, control=True)
        for port in netlist.sources(target.payload, control=False):
            source = by_payload.get(port)
            if source is not None and source.valid in starts:
                label = _label(source, target)
                link(source.payload.box, target.payload.box, {label} - {""}, label)
                if source.label == "o" or target.label == "i":
                    main.add((groups.get(port.box), groups.get(target.payload.box), label))

    in_streams = {port for s in streams + outer for port in _stream_ports(s)}
    buses = _buses(unit.signature)

    def link_wires(port: _Port, target: _Port) -> None:
        outside = [p.name for p in (port, target) if p.box is None]
        if not outside:
            link(port.box, target.box, {_short(port.name)}, None)
            return
        # the ports of a bus are an interface inside, too
        inner = [p.name for p in (port, target) if p.box is not None]
        if any("__" in name for name in inner) and outside[0] in buses:
            name = buses[outside[0]]
            link(port.box, target.box, {name}, name)

    for target_port in netlist.inputs.keys() - in_streams:
        for port in netlist.sources(target_port, control=False) - in_streams:
            link_wires(port, target_port)
    linked = {end for source, target, _ in links for end in (source, target)}
    for target_port in netlist.inputs:
        for port in netlist.sources(target_port, control=False):
            alone = {groups.get(p.box) for p in (port, target_port)} - linked - {None}
            if alone and port.box is not None and target_port.box is not None:
                link_wires(port, target_port)
    return Inside(
        tuple(_boxes(components, groups)),
        tuple(
            Link(*key[:2], tuple(sorted(labels)), key[2] is not None, key in main)
            for key, labels in sorted(
                links.items(), key=lambda item: tuple(str(part) for part in item[0])
            )
        ),
    )


@contextmanager
def _black_boxes(opened: type) -> Iterator[dict[str, Any]]:
    """Let every unit of the package but this one elaborate to a black box of its ports; yield the
    boxes that were elaborated, by the type of their cell.
    """
    boxes: dict[str, Any] = {}

    def elaborate(self: Any, platform: Any) -> Instance:
        name = f"box_{len(boxes)}"
        boxes[name] = self
        ports = {
            ("o_" if member.flow is wiring.Out else "i_") + "__".join(map(str, path)): value
            for path, member, value in self.signature.flatten(self)
        }
        return Instance(name, **ports)

    package = importlib.import_module(PACKAGE)
    for module in pkgutil.walk_packages(package.__path__, f"{PACKAGE}."):
        if not module.name.startswith(__package__):
            importlib.import_module(module.name)
    patches = [
        mock.patch.object(kind, "elaborate", elaborate)
        for kind in _subclasses(wiring.Component)
        if kind.__module__.startswith(f"{PACKAGE}.") and kind is not opened
    ]
    for patch in patches:
        patch.start()
    try:
        yield boxes
    finally:
        for patch in patches:
            patch.stop()


def _subclasses(kind: type) -> Iterator[type]:
    children: list[type] = kind.__subclasses__()
    for child in children:
        yield child
        yield from _subclasses(child)


_SIGNAL = re.compile(r"(?<!\S)[\\$][^\s{}]+")


def _read(text: str, boxes: Mapping[str, Any]) -> _Netlist:
    """Return the dependencies in the module ``top``."""
    modules = {
        match[1]: match[2]
        for match in re.finditer(r"^module \\(\S+)\n(.*?)^end$", text, re.MULTILINE | re.DOTALL)
    }
    directions: dict[str, dict[str, str]] = {
        name: {
            wire: way
            for way, wire in re.findall(
                r"^  wire .*?(input|output) \d+ +\\(\S+)$", body, re.MULTILINE
            )
        }
        for name, body in modules.items()
    }
    for name, component in boxes.items():
        directions[name] = {
            "__".join(map(str, path)): "output" if member.flow is wiring.Out else "input"
            for path, member, _ in component.signature.flatten(component)
        }
    netlist = _Netlist()
    for wire, way in directions["top"].items():
        if way == "input":
            netlist.depend(f"\\{wire}", {_Port(None, wire)})
        else:
            netlist.inputs[_Port(None, wire)] = {f"\\{wire}"}
    lines = iter(modules["top"].splitlines())
    switches: list[tuple[int, set[str]]] = []
    for line in lines:
        indent = len(line) - len(line.lstrip())
        word, _, rest = line.strip().partition(" ")
        if word == "cell":
            kind, name = (part.lstrip("\\") for part in rest.split(" "))
            _read_cell(netlist, kind, name, lines, directions)
        elif word == "connect" or word == "assign":
            switches = [s for s in switches if s[0] < indent]
            left, right = _sides(rest)
            for signal in left:
                netlist.depend(signal, right)
                for _, conditions in switches:
                    netlist.depend(signal, conditions, control=True)
        elif word == "switch":
            switches = [s for s in switches if s[0] < indent]
            switches.append((indent, set(_SIGNAL.findall(rest))))
    return netlist


def _sides(text: str) -> tuple[set[str], set[str]]:
    """Return the signals of the left and of the right side of a connection."""
    left = re.match(r"\{[^}]*\}|\S+(?: \[[\d:]+\])*", text)
    assert left is not None
    return set(_SIGNAL.findall(left[0])), set(_SIGNAL.findall(text[left.end() :]))


def _read_cell(
    netlist: _Netlist,
    kind: str,
    name: str,
    lines: Iterator[str],
    directions: Mapping[str, Mapping[str, str]],
) -> None:
    own: dict[str, set[str]] = {}
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        if word == "end":
            break
        if word == "connect":
            port, _, connected = rest.partition(" ")
            own[port.lstrip("\\")] = set(_SIGNAL.findall(connected))
    if kind.startswith("$"):
        for port in ("Y", "Q"):
            for signal in own.get(port, ()):
                for other, sources in own.items():
                    if other not in (port, "CLK", "SRST", "ARST", "EN"):
                        netlist.depend(signal, sources, control=other == "S")
        return
    netlist.cells.append((kind, name))
    for port, signals in own.items():
        if directions[kind].get(port) == "output":
            for signal in signals:
                netlist.depend(signal, {_Port(name, port)})
        else:
            netlist.inputs[_Port(name, port)] = signals


def _streams(box: str | None, signature: wiring.Signature) -> Iterator[_Stream]:
    """Yield the streams of a signature, those of its interfaces too."""

    def walk(signature: Any, path: tuple[Any, ...], label: str, is_out: bool) -> Iterator[_Stream]:
        for name, member in signature.members.items():
            if member.is_port:
                continue
            flows_out = (member.flow is wiring.Out) == is_out
            places: list[tuple[int, ...]] = [()]
            for size in member.dimensions:
                places = [(*place, n) for place in places for n in range(size)]
            for place in places:
                here, text = (*path, name, *place), f"{label}.{name}" if label else name
                if isinstance(member.signature, stream.Signature):
                    ports = ["__".join(map(str, (*here, end))) for end in ("payload", "valid")]
                    yield _Stream(text, flows_out, *(_Port(box, port) for port in ports))
                else:
                    yield from walk(member.signature, here, text, flows_out)

    yield from walk(signature, (), "", True)


def _stream_ports(found: _Stream) -> list[_Port]:
    stem = found.payload.name.removesuffix("payload")
    return [_Port(found.payload.box, stem + end) for end in ("payload", "valid", "ready")]


def _buses(signature: wiring.Signature) -> dict[str, str]:
    """Return the bus of each port whose name has its prefix."""
    prefixes = {name: name.rpartition("_")[0] for name in signature.members}
    counts = list(prefixes.values())
    return {n: p for n, p in prefixes.items() if p and counts.count(p) >= BUS_PORTS}


def _label(source: _Stream, target: _Stream) -> str:
    """Return the name that says most: what it is for where it goes, or where it comes from."""
    names = [_short(s.label) for s in (target, source)]
    return next((name for name in names if name not in ("i", "o")), "")


def _short(port: str) -> str:
    """Return a port's name without indices, and of an interface's member the member's."""
    parts = [part for part in re.split(r"__|\.", port) if not part.isdigit()]
    while len(parts) > 1 and parts[-1] in ("payload", "valid", "ready", "i", "o"):
        parts.pop()
    return parts[-1]


def _groups(components: Mapping[str, Any]) -> dict[str | None, str]:
    """Return the name of each box: equal units whose names differ in a number are one."""
    stems: dict[tuple[str, Any], list[str]] = {}
    for name, component in components.items():
        stem = re.sub(r"(_\d+)+$", "", name.partition("$")[0])
        stems.setdefault((stem, type(component)), []).append(name)
    return {
        name: stem if len(names) > 1 else name.partition("$")[0]
        for (stem, _), names in stems.items()
        for name in names
    }


def _boxes(components: Mapping[str, Any], groups: Mapping[str | None, str]) -> Iterator[Box]:
    names = list(groups.values())
    seen = set[str]()
    for name, component in components.items():
        group = groups[name]
        if group in seen:
            continue
        seen.add(group)
        file = ""
        if component is not None:
            module = inspect.getmodule(type(component))
            assert module is not None
            file = module.__name__.removeprefix(f"{PACKAGE}.").replace(".", "/") + ".py"
        yield Box(group, names.count(group), file)
