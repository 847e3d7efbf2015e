"""Memories as separate cells for synthesis: timing estimates without an SRAM compiler.

A cell has one clock, any number of synchronous ports and fixed delays. Its size is in its name,
``loopnest_memory_<width>x<depth>_<reads>r<writes>w_<enables>e``, its area is 0; their bits are
reported instead.
"""

import re
from dataclasses import dataclass

CLOCK_TO_OUTPUT_NS = 0.4
SETUP_NS = 0.1
"""Delays of every memory: those of a small single-cycle SRAM in a 45 nm process."""

OUTPUT_TRANSITION_NS = 0.05
INPUT_CAPACITANCE_FF = 2.0
"""Load of a pin."""

REGISTER_BITS = 1024
"""Memories of at most this many bits become flip-flops."""

_MEMORY = re.compile(r"^  cell \$mem_v2 (\S+)\n(.*?)^  end\n", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"loopnest_memory_(\d+)x(\d+)_(\d+)r(\d+)w_(\d+)e$")


@dataclass(frozen=True, order=True)
class MemoryCell:
    """A kind of memory: word width, depth, numbers of read and write ports, and total number of
    write enables.
    """

    width: int
    depth: int
    reads: int
    writes: int
    enables: int

    @property
    def name(self) -> str:
        """Name of the cell."""
        ports = f"{self.reads}r{self.writes}w_{self.enables}e"
        return f"loopnest_memory_{self.width}x{self.depth}_{ports}"

    @property
    def bits(self) -> int:
        """Bits that it stores."""
        return self.width * self.depth

    @property
    def ports(self) -> dict[str, tuple[str, int]]:
        """Direction and width of each port but ``clk``; named as in Yosys's ``$mem_v2``."""
        address = max(1, (self.depth - 1).bit_length())
        return {
            "RD_EN": ("input", self.reads),
            "RD_ADDR": ("input", self.reads * address),
            "RD_DATA": ("output", self.reads * self.width),
            "WR_EN": ("input", self.enables),
            "WR_ADDR": ("input", self.writes * address),
            "WR_DATA": ("input", self.writes * self.width),
        }


def parse_name(name: str) -> MemoryCell | None:
    """Return the memory that a cell's name describes, or None."""
    found = _NAME.search(name)
    return MemoryCell(*map(int, found.groups())) if found else None


def replace_memories(rtlil: str) -> tuple[str, list[MemoryCell]]:
    """Replace the larger ``$mem_v2`` cells of a design in RTLIL; return it and the kinds used.

    Raises
    ------
    ValueError
        If a memory has an asynchronous read port or several clocks; the message names it.
    """
    kinds: set[MemoryCell] = set()

    def replace(found: re.Match[str]) -> str:
        name, body = found.groups()
        numbers = {key: int(value) for key, value in re.findall(r"parameter \\(\w+) (\d+)\n", body)}
        connections = dict(re.findall(r"connect \\(\w+) (.*)\n", body))
        writes = numbers["WR_PORTS"]
        enables = writes * numbers["WIDTH"]
        bits = set(re.findall(r"[^\s{}]+(?: \[\d+\])?", connections["WR_EN"]))
        if writes == 1 and len(bits) == 1:
            # one enable for the whole word: its net has one pin here
            enables, connections["WR_EN"] = 1, bits.pop()
        kind = MemoryCell(numbers["WIDTH"], numbers["SIZE"], numbers["RD_PORTS"], writes, enables)
        if kind.bits <= REGISTER_BITS:
            return found.group(0)
        clocked = re.search(r"parameter \\RD_CLK_ENABLE \d+'([01]+)", body)
        if clocked is None or "0" in clocked.group(1):
            raise ValueError(f"memory {name}: expected synchronous read ports only")
        clocks = {
            signal
            for port in ("RD_CLK", "WR_CLK")
            for signal in connections[port].strip("{} ").split()
            if not re.match(r"\d+'", signal)
        }
        if len(clocks) != 1:
            raise ValueError(f"memory {name}: clocks {sorted(clocks)}: expected a single one")
        kinds.add(kind)
        lines = [f"    connect \\clk {clocks.pop()}"]
        lines += [
            f"    connect \\{port} {connections[port]}"
            for port, (_, width) in kind.ports.items()
            if width
        ]
        return f"  cell \\{kind.name} {name}\n" + "\n".join(lines) + "\n  end\n"

    return _MEMORY.sub(replace, rtlil), sorted(kinds)


def black_boxes(kinds: list[MemoryCell]) -> str:
    """Return the cells as empty Verilog modules."""
    modules = []
    for kind in kinds:
        ports = ["input clk"] + [
            f"{direction} [{width - 1}:0] {port}"
            for port, (direction, width) in kind.ports.items()
            if width
        ]
        modules.append(f"(* blackbox *) module {kind.name}({', '.join(ports)}); endmodule\n")
    return "".join(modules)


def liberty(kinds: list[MemoryCell]) -> str:
    """Return the cells as a Liberty library."""
    widths = {width for kind in kinds for _, width in kind.ports.values() if width}
    types = "".join(
        f"  type (bits{width}) {{ base_type : array; data_type : bit; bit_width : {width}; "
        f"bit_from : {width - 1}; bit_to : 0; downto : true; }}\n"
        for width in sorted(widths)
    )
    rise_fall = "".join(
        f'{edge} (scalar) {{ values ("{value}"); }} '
        for edge, value in (
            ("cell_rise", CLOCK_TO_OUTPUT_NS),
            ("cell_fall", CLOCK_TO_OUTPUT_NS),
            ("rise_transition", OUTPUT_TRANSITION_NS),
            ("fall_transition", OUTPUT_TRANSITION_NS),
        )
    )
    output = f'timing () {{ related_pin : "clk"; timing_type : rising_edge; {rise_fall}}}'
    limit = "".join(
        f'{edge}_constraint (scalar) {{ values ("{SETUP_NS}"); }} ' for edge in ("rise", "fall")
    )
    setup = f'timing () {{ related_pin : "clk"; timing_type : setup_rising; {limit}}}'
    cells = []
    for kind in kinds:
        pins = ["    pin (clk) { direction : input; clock : true; capacitance : 1.0; }\n"]
        for port, (direction, width) in kind.ports.items():
            if width:
                load = f"capacitance : {INPUT_CAPACITANCE_FF};"
                timing = output if direction == "output" else f"{load} {setup}"
                pins.append(
                    f"    bus ({port}) {{ bus_type : bits{width}; direction : {direction}; "
                    f"{timing} }}\n"
                )
        cells.append(f"  cell ({kind.name}) {{\n    area : 0;\n{''.join(pins)}  }}\n")
    return (
        "library (loopnest_memories) {\n"
        '  delay_model : table_lookup;\n  time_unit : "1ns";\n  capacitive_load_unit (1, ff);\n'
        '  voltage_unit : "1V";\n  current_unit : "1mA";\n  pulling_resistance_unit : "1kohm";\n'
        f"{types}{''.join(cells)}}}\n"
    )
