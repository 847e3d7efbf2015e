"""Verilog as an ASIC has it: nothing is known before the reset."""

import re


def without_initial_values(verilog: str) -> str:
    """Return the Verilog with registers and memories that are x until they are written."""
    register = r"^(  (?:output )?reg (?:\[\d+:0\] )?\S+ ?) = [^;]+;"
    verilog = re.sub(register, r"\1;", verilog, flags=re.M)
    verilog = re.sub(
        r"^  initial begin\n(?:    \S+ ?\[\d+\] = .*\n)+  end\n", "", verilog, flags=re.M
    )
    assert not re.search(r"^ *(?:reg .*=|initial)", verilog, re.M)
    return verilog
