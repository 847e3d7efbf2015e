"""The platform of the proofs."""

FORMAL = "formal"
"""Elaborated for this platform, a unit asserts the invariants that an induction over its outputs
needs, and assumes what its contract requires of its neighbours.

Both are written next to the logic concerned. The assertions are proved together with the stream
law; the exported Verilog contains neither.
"""
