"""Energy of runs, measured by replaying their registers through the mapped netlist."""
