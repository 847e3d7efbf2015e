"""Power of a mapped netlist from the values of its registers."""
