"""The platform of the proofs."""

FORMAL = "formal"
"""Elaborated for it, a unit asserts what an induction over its outputs has to know of its inside,
and assumes what its contract asks of its neighbours.

So both stand beside what they speak of. The assertions are proved with the outputs' law; nothing of
it is in the Verilog.
"""
