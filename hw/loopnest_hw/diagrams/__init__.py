"""Diagrams of the hardware, drawn from the ports of its units and how they are connected."""
