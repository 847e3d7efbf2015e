"""Verilator's coverage points, by unit and independent of the configuration.

Verilator's line coverage counts how often each block, each branch (including an implicit ``else``),
each case and each side of a conditional expression was executed. Each of these is a point.

A unit occurs in many designs, with different parameters and so different Verilog. A point is
therefore named by what does not change: the file in hw/loopnest_hw and the line where its module is
built, the signal that its process drives, and its place among the process's branches.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = "hw/loopnest_hw/"
"""The units' folder: modules from elsewhere (Amaranth's library) are not counted."""

_MODULE = re.compile(
    r'^\(\* src = "([^"]+):(\d+)" \*\)\n(?:\(\*[^\n]*\n)*module .*?^endmodule',
    re.MULTILINE | re.DOTALL,
)
_SOURCE = re.compile(r'\(\* src = "([^"]+:\d+)" \*\)')
_DECLARATION = re.compile(
    r'^  \(\* src = "([^"]+:\d+)" \*\)\n'
    r"  (?:(?:input|output|wire|reg) )+(?:\[\S+\] )?(\S+?)(?= |;)",
    re.MULTILINE,
)
_REGISTER = re.compile(r"^  always @\(posedge \S+\)\n    (\S+) +<= (\S+) *;", re.MULTILINE)
_TARGET = re.compile(r"^\s+(?:\{ )?([^\s(\[,]+).* <?= ")
_BRANCH = re.compile(r"if |end else|casez |default:|\d+'\w[\w?, ']*:")
_ATTRIBUTE = re.compile(r"\(\*.*?\*\) ")
_NUMBER = re.compile(r"\$\d+ ?|\\")
"""Numbers that the Verilog writer adds to names, and the syntax around names."""
_WRITERS = "$auto$verilog_backend"
"""Part of a line that Yosys adds to each process so that it runs at the start."""

_FIELD = re.compile(r"\x01(\w+)\x02([^\x01']*)")


@dataclass(frozen=True)
class Place:
    """A line of the Verilog, identified independently of the configuration.

    Parameters
    ----------
    unit : str
        File in the units' folder, such as ``row/joiner``.
    module : int
        Line of the file where the module is built.
    process : str
        The signal that the line's process drives; its branches, if it drives no named signal; the
        source location of a conditional expression.
    copy : int
        Number among the module's processes of the same name.
    path : tuple of pairs
        Indentation and number of each branch around the line, and its own.
    """

    unit: str
    module: int
    process: str
    copy: int
    path: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Point:
    """A point: where it is, and Verilator's name of its kind (``if``, ``else``, ``case``...)."""

    place: Place
    kind: str


@dataclass(frozen=True)
class Line:
    """A line of one Verilog text."""

    place: Place
    text: str
    source: str
    """File and line in the units' folder: of the expression, the signal or the module."""
    number: int

    @property
    def label(self) -> str:
        """The text that reports show and waivers match: the signal and the line, without
        numbers.
        """
        name = self.place.process if "\n" not in self.place.process else ""
        return f"{name}: {_NUMBER.sub('', _ATTRIBUTE.sub('', self.text))}"


def lines_of(verilog: str) -> dict[int, Line]:
    """Return the lines of the units' processes and conditional expressions by their number."""
    found: dict[int, Line] = {}
    for module in _MODULE.finditer(verilog):
        if FOLDER in module[1]:
            first = verilog.count("\n", 0, module.start()) + 1
            for line in _module_lines(module[0], _short(module[1]), int(module[2]), first):
                found[line.number] = line
    return found


def _module_lines(text: str, file: str, built: int, first: int) -> Iterator[Line]:
    unit = file.removesuffix(".py")
    declared = {
        name: _short(source) for source, name in _DECLARATION.findall(text) if FOLDER in source
    }
    drives = {value: name for name, value in _REGISTER.findall(text)}
    copies: Counter[str] = Counter()

    def process(name: str) -> tuple[str, int]:
        copies[name] += 1
        return name, copies[name]

    lines = text.split("\n")
    number = 0
    while number < len(lines):
        line = lines[number]
        if line.startswith("  assign") and " ? " in line:
            source = _SOURCE.search(line)
            where = f"{file}:{built}"
            if source and FOLDER in source[1]:
                where = _short(source[1])
            place = Place(unit, built, *process(where if source else _NUMBER.sub("", line)))
            yield Line(place, line.strip(), where, first + number)
        elif line.startswith("  always"):
            end = number + 1
            while lines[end].startswith(("   ", "  end")):
                end += 1
            body = lines[number:end]
            targets = (_TARGET.match(part) for part in body[1:] if _WRITERS not in part)
            target = str(next((match[1] for match in targets if match), ""))
            signal = drives.get(target, target)
            bare = _NUMBER.sub("", signal)
            kind = "" if "posedge" not in line else "register "
            name, copy = process(kind + (bare or _skeleton(body)))
            for offset, path in _paths(body):
                place = Place(unit, built, name, copy, path)
                where = declared.get(signal, f"{file}:{built}")
                yield Line(place, body[offset].strip(), where, first + number + offset)
            number = end - 1
        number += 1


def _skeleton(body: Sequence[str]) -> str:
    """Return a process's branches, each in a line, without numbers."""
    branches = [line for line in body if _BRANCH.match(line.lstrip()) and _WRITERS not in line]
    return _NUMBER.sub("", "\n".join(branches)) + "\n"


def _paths(body: Sequence[str]) -> Iterator[tuple[int, tuple[tuple[int, int], ...]]]:
    """Return each line's branches; those that the Verilog's writer added are left out."""
    counts: dict[int, int] = {}
    for offset, line in enumerate(body):
        text = line.lstrip()
        if _WRITERS in text:
            continue
        indent = len(line) - len(text)
        counts = {i: n for i, n in counts.items() if i <= indent}
        if _BRANCH.match(text):
            counts[indent] = counts.get(indent, 0) + 1
        yield offset, tuple(sorted(counts.items()))


def _short(path: str) -> str:
    """Return the path from the units' folder on."""
    return path.partition(FOLDER)[2]


def read_points(folder: Path) -> dict[Point, tuple[int, Line]]:
    """Return how often each point was executed, and one of its lines.

    Parameters
    ----------
    folder : Path
        Of folders with a design's Verilog and the coverage of its runs, as `tb.harness` leaves it.
    """
    found: dict[Point, tuple[int, Line]] = {}
    for verilog in sorted(folder.glob("*/*.v")):
        lines = lines_of(verilog.read_text())
        for data in verilog.parent.glob("*.dat"):
            for record in data.read_text(errors="replace").split("\n"):
                fields = dict(_FIELD.findall(record))
                line = lines.get(int(fields.get("l", 0)))
                if line is not None:
                    point = Point(line.place, fields["o"])
                    count, line = found.get(point, (0, line))
                    found[point] = (count + int(record.rpartition(" ")[2]), line)
    return found
