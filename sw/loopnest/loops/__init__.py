"""The plan of a kernel: the order of its loops, its operands' levels, and the streams."""
