"""Loopnest's hardware: the sparse processing element and the chip around it, in Amaranth."""
