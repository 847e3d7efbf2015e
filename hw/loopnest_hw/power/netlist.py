"""A mapped netlist in one piece: cells by kind, with numbers for their nets and their units."""

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..memory_cells import MemoryCell, parse_name
from .cells import Cell, Library

Nets = NDArray[np.int64]

ZERO, ONE = 0, 1
"""The nets of the constants."""


@dataclass
class Cells:
    """The cells of a kind: the net of each pin, and the number of the unit that each is in.

    An output without a net has one of its own.
    """

    kind: Cell
    pins: dict[str, Nets]
    unit: NDArray[np.int64]


@dataclass(frozen=True)
class Memory:
    """A memory: its kind, its unit and the nets of each port, from the low bit."""

    kind: MemoryCell
    name: str
    unit: int
    ports: dict[str, Nets]


@dataclass
class Netlist:
    """A netlist without hierarchy.

    Attributes
    ----------
    nets : int
        The number of nets; 0 and 1 are the constants.
    units : list of str
        The units' paths below the top, such as ``row_1/joiner``; the top's is "".
    cells : list of Cells
    memories : list of Memory
    inputs, outputs : dict of str to array
        The nets of the top's ports.
    names : dict of int to (list of (int, str))
        For each net that logic starts from (an input, or an output of a flip-flop or a memory): the
        units and names by which it is known. A bit's name is ``name[bit]``.
    """

    nets: int
    units: list[str]
    cells: list[Cells]
    memories: list[Memory]
    inputs: dict[str, Nets]
    outputs: dict[str, Nets]
    names: dict[int, list[tuple[int, str]]]


@dataclass
class _Module:
    """A module: nets are Yosys's numbers in it, which begin behind the constants."""

    size: int
    ports: dict[str, tuple[str, list[int]]]
    cells: dict[str, dict[str, NDArray[np.int64]]] = field(default_factory=dict)
    memories: list[tuple[MemoryCell, str, dict[str, list[int]]]] = field(default_factory=list)
    children: list[tuple[str, str, dict[str, list[int]]]] = field(default_factory=list)
    names: dict[int, list[str]] = field(default_factory=dict)


def read_netlist(path: Path, top: str, library: Library, *, all_names: bool = False) -> Netlist:
    """Return the netlist of Yosys's ``write_json``, mapped to the library; with ``all_names``,
    names are kept of all nets.

    Raises
    ------
    ValueError
        If a cell is not in the library.
    """
    modules = {
        name: _module(name, module, library, all_names)
        for name, module in json.loads(path.read_text())["modules"].items()
        if not parse_name(name)
    }
    return _Flattener(modules, library).run(top)


def _bits(bits: list[Any]) -> list[int]:
    return [bit if isinstance(bit, int) else ONE if bit == "1" else ZERO for bit in bits]


def _module(name: str, module: dict[str, Any], library: Library, all_names: bool) -> _Module:
    """Read a module, its cells by kind."""
    ports = {port: (p["direction"], _bits(p["bits"])) for port, p in module["ports"].items()}
    found = _Module(2, ports)
    rows: dict[str, list[dict[str, list[int]]]] = defaultdict(list)
    starts = {bit for kind, bits in ports.values() if kind == "input" for bit in bits}
    largest = max((bit for _, bits in ports.values() for bit in bits), default=1)
    for cell, entry in module["cells"].items():
        kind = entry["type"].removeprefix("\\")
        pins = {pin: _bits(bits) for pin, bits in entry["connections"].items()}
        largest = max([largest, *(bit for bits in pins.values() for bit in bits)])
        memory = parse_name(kind)
        if memory:
            found.memories.append((memory, cell, pins))
            starts.update(pins["RD_DATA"])
        elif kind in library.cells:
            rows[kind].append(pins)
            if library.cells[kind].is_flip_flop:
                starts.update(
                    bit for pin in library.cells[kind].outputs for bit in pins.get(pin, [])
                )
        elif kind.startswith("$"):
            raise ValueError(f"{name}, {cell}: {kind} is not mapped to the library")
        else:
            found.children.append((kind, cell, pins))
    for net, entry in module["netnames"].items():
        for place, bit in enumerate(_bits(entry["bits"])):
            largest = max(largest, bit)
            if bit > ONE and (all_names or (bit in starts and not entry["hide_name"])):
                several = len(entry["bits"]) > 1
                found.names.setdefault(bit, []).append(f"{net}[{place}]" if several else net)
    found.size = largest + 1
    for kind, entries in rows.items():
        cell_kind = library.cells[kind]
        columns = {}
        for pin in (*cell_kind.inputs, *cell_kind.outputs):
            columns[pin] = np.array(
                [entry[pin][0] if entry.get(pin) else -1 for entry in entries], np.int64
            )
        found.cells[kind] = columns
    return found


class _Flattener:
    """Numbers the nets of all instances."""

    def __init__(self, modules: dict[str, _Module], library: Library) -> None:
        self._modules, self._library = modules, library
        self._next = 2
        self._units: list[str] = []
        self._names: dict[int, list[tuple[int, str]]] = defaultdict(list)
        self._parts: dict[str, list[tuple[dict[str, Nets], int]]] = defaultdict(list)
        self._memories: list[Memory] = []
        self._same: dict[int, int] = {}
        """Nets of outputs that a unit connects to another port or to a constant, and that net."""

    def run(self, top: str) -> Netlist:
        module = self._modules[top]
        numbers = self._visit(top, "", {})
        same = self._resolve()
        ports = {
            direction: {
                name: same[numbers[bits]]
                for name, (kind, bits) in module.ports.items()
                if kind == direction
            }
            for direction in ("input", "output")
        }
        cells = []
        for kind, parts in self._parts.items():
            pins = {
                pin: np.concatenate([columns[pin] for columns, _ in parts]) for pin in parts[0][0]
            }
            pins = {pin: np.where(nets < 0, -1, same[nets]) for pin, nets in pins.items()}
            size = [len(next(iter(columns.values()))) for columns, _ in parts]
            units = np.repeat([unit for _, unit in parts], size)
            for nets in pins.values():
                open_pins = np.nonzero(nets < 0)[0]
                nets[open_pins] = self._next + np.arange(len(open_pins))
                self._next += len(open_pins)
            cells.append(Cells(self._library.cells[kind], pins, units))
        memories = [
            replace(memory, ports={port: same[nets] for port, nets in memory.ports.items()})
            for memory in self._memories
        ]
        names: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for net, known in self._names.items():
            names[int(same[net])] += known
        return Netlist(
            self._next, self._units, cells, memories, ports["input"], ports["output"], dict(names)
        )

    def _visit(self, name: str, path: str, outside: dict[int, int]) -> Nets:
        """Add an instance; ``outside`` has the nets of its ports by their number in the module."""
        module = self._modules[name]
        unit = len(self._units)
        self._units.append(path)
        numbers = np.full(module.size + 1, -1, np.int64)  # the last is that of an open pin, -1
        numbers[:2] = ZERO, ONE
        for inner, outer in outside.items():
            numbers[inner] = outer
        (missing,) = np.nonzero(numbers[:-1] < 0)
        numbers[missing] = self._next + np.arange(len(missing))
        self._next += len(missing)
        for bit, names in module.names.items():
            self._names[int(numbers[bit])] += [(unit, text) for text in names]
        for kind, columns in module.cells.items():
            self._parts[kind].append(({pin: numbers[c] for pin, c in columns.items()}, unit))
        for memory, cell, pins in module.memories:
            ports = {port: numbers[bits] for port, bits in pins.items()}
            self._memories.append(Memory(memory, cell, unit, ports))
        for kind, cell, pins in module.children:
            if kind not in self._modules:
                raise ValueError(f"{path or name}, {cell}: {kind} is not in the library")
            inside: dict[int, int] = {ZERO: ZERO, ONE: ONE}
            ports_of = self._modules[kind].ports
            for direction in ("input", "output"):
                for port, (found, bits) in ports_of.items():
                    if found == direction and port in pins:
                        for i, o in zip(bits, numbers[pins[port]].tolist(), strict=True):
                            if inside.setdefault(i, o) != o:
                                self._same[o] = inside[i]
            self._visit(kind, f"{path}/{cell}" if path else cell, inside)
        return numbers

    def _resolve(self) -> Nets:
        """Return each net's number, where outputs of units that are their inputs are joined."""
        found = np.arange(self._next)
        for net in self._same:
            root = net
            while root in self._same:
                root = self._same[root]
            found[net] = root
        return found


def split_bit(name: str) -> tuple[str, int]:
    """Return the signal and the bit of a bit's name, ``name[bit]``; of any other, the bit is 0."""
    found = re.fullmatch(r"(.*)\[(\d+)\]", name)
    return (found[1], int(found[2])) if found else (name, 0)
