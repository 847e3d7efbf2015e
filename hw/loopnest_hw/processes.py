"""Combinational processes that run at the start, in every simulator.

Yosys writes ``always @* begin if (trigger) begin end ... end`` with ``reg trigger = 0``. In
Verilog-2005 that is an assignment at time 0, in SystemVerilog a value from before time 0: there it
changes nothing, and a process that reads constants, or registers that keep their initial value,
does not run. Some processes have no trigger at all.
"""

import re

START = "_start_"
"""The trigger of each module."""

_DEFINITION = f"""\
// A combinational process runs when something that it reads changes, and a constant never does. So
// each reads {START}, which goes from x to 0 when all processes wait: a nonblocking assignment
// comes after them. Verilator and synthesis need no trigger.
`ifdef VERILATOR
`define LOOPNEST_START wire {START} = 1'b0;
`elsif SYNTHESIS
`define LOOPNEST_START wire {START} = 1'b0;
`else
`define LOOPNEST_START reg {START}; initial {START} <= 1'b0;
`endif

"""

_MODULE = re.compile(r"^module .*?^endmodule\n", re.MULTILINE | re.DOTALL)
_HEADER = re.compile(r"^module [^;]*;\n", re.MULTILINE)
_YOSYS_TRIGGER = re.compile(r"^  reg (\S+)  = 0;\n", re.MULTILINE)
_ONE_STATEMENT = re.compile(r"^  always @\*\n    (.*;\n)", re.MULTILINE)


def start_processes(verilog: str) -> str:
    """Return Yosys's Verilog with a trigger for each combinational process that is sure to change.

    Raises
    ------
    ValueError
        If a signal has the trigger's name.
    """
    if START in verilog:
        raise ValueError(f"signal {START}: the name of the processes' trigger is taken")
    head, rest = verilog[: (at := verilog.index("module "))], verilog[at:]
    return head + _DEFINITION + _MODULE.sub(lambda module: _start_module(module[0]), rest)


def _start_module(module: str) -> str:
    triggers = _YOSYS_TRIGGER.findall(module)
    module = _YOSYS_TRIGGER.sub("", module)
    for trigger in triggers:
        module = module.replace(f"    if ({trigger} ) begin end\n", f"    if ({START}) begin end\n")
    module = _ONE_STATEMENT.sub(
        rf"  always @* begin\n    if ({START}) begin end\n    \1  end\n", module
    )
    if START not in module:
        return module
    return _HEADER.sub(lambda header: f"{header[0]}  `LOOPNEST_START\n", module, count=1)
