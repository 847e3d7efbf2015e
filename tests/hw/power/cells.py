"""A small Liberty library with loads and energies, for tests."""

SLEWS = (0.01, 0.1)
LOADS = (1, 10)


def _table(kind: str, scale: float) -> str:
    rows = ", ".join(
        '"' + ", ".join(f"{scale * (1 + 0.5 * slew + 0.02 * load):.5f}" for load in LOADS) + '"'
        for slew in SLEWS
    )
    return f"{kind} (grid) {{ values ({rows}); }} "


def _input(name: str, extra: str = "") -> str:
    return f"    pin ({name}) {{ direction : input; capacitance : 1.5; {extra} }}\n"


def _output(function: str, related: str, energy: float, kind: str = "") -> str:
    arcs = ""
    for pin in related.split():
        # tables here, as in a real library, make ABC fail with so few cells
        delays = "".join(
            f'{name} (scalar) {{ values ("0.03"); }} '
            for name in ("cell_rise", "cell_fall", "rise_transition", "fall_transition")
        )
        sense = "" if kind else "timing_sense : negative_unate; "
        arcs += f'      timing () {{ related_pin : "{pin}"; {kind}{sense}{delays} }}\n'
        power = _table("rise_power", energy) + _table("fall_power", 1.2 * energy)
        arcs += f'      internal_power () {{ related_pin : "{pin}"; {power} }}\n'
    return f'    pin (Y) {{ direction : output; function : "{function}";\n{arcs}    }}\n'


def _cell(name: str, area: float, leakage: float, body: str) -> str:
    return (
        f"  cell ({name}) {{\n    area : {area};\n    cell_leakage_power : {leakage};\n{body}  }}\n"
    )


def _clocked() -> str:
    limits = "".join(
        f'{edge}_constraint (scalar) {{ values ("0.05"); }} ' for edge in ("rise", "fall")
    )
    setup = f'timing () {{ related_pin : "CK"; timing_type : setup_rising; {limits}}}'
    energies = (("rise_power", 2.0), ("fall_power", 3.0))
    tables = " ".join(f'{edge} (scalar) {{ values ("{fj}"); }}' for edge, fj in energies)
    power = f"internal_power () {{ {tables} }}"
    clock = _input("CK", f"clock : true; {power}")
    output = _output("IQ", "CK", 1.5, "timing_type : rising_edge; ")
    state = '    ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; }\n'
    return _cell("DFF", 5, 40, state + clock + _input("D", setup) + output)


def _gate() -> str:
    body = (
        '    clock_gating_integrated_cell : "latch_posedge";\n'
        + _input("CK", "clock_gate_clock_pin : true;")
        + _input("E", "clock_gate_enable_pin : true;")
        + "    pin (GCK) { direction : output; clock_gate_out_pin : true; }\n"
    )
    return _cell("GATE", 3, 10, body)


def library(*, gates: bool = False) -> str:
    """Return the library: inverter, buffer, NAND gate, flip-flop and maybe a clock gate."""
    return (
        "/* a comment */\nlibrary (small) {\n"
        "  delay_model : table_lookup;\n  nom_voltage : 1.1;\n"
        '  time_unit : "1ns";\n  capacitive_load_unit (1, ff);\n  voltage_unit : "1V";\n'
        '  current_unit : "1mA";\n  pulling_resistance_unit : "1kohm";\n'
        '  leakage_power_unit : "1nW";\n'
        + "".join(
            f"  {kind}_threshold_pct_{edge} : {percent};\n"
            for kind, percent in (
                ("input", 50),
                ("output", 50),
                ("slew_lower", 30),
                ("slew_upper", 70),
            )
            for edge in ("rise", "fall")
        )
        + "  operating_conditions (typical) { process : 1; temperature : 25; voltage : 1.1; }\n"
        "  default_operating_conditions : typical;\n"
        "  power_lut_template (grid) { variable_1 : input_transition_time; "
        f'variable_2 : total_output_net_capacitance; index_1 ("{SLEWS[0]}, {SLEWS[1]}"); '
        f'index_2 ("{LOADS[0]}, {LOADS[1]}"); }}\n'
        '  wire_load ("wires") { capacitance : 0.2; resistance : 0.001; slope : 3; '
        "fanout_length (1, 2.0); fanout_length (2, 5.0); fanout_length (4, 9.0); }\n"
        '  default_wire_load : "wires";\n'
        + _cell("INV", 1, 10, _input("A") + _output("(!A)", "A", 0.4))
        + _cell("BUF", 2, 20, _input("A") + _output("A", "A", 0.8).replace("negative", "positive"))
        + _cell("NAND2", 2, 15, _input("A") + _input("B") + _output("(!(A B))", "A B", 0.6))
        + _clocked()
        + (_gate() if gates else "")
        + "}\n"
    )
