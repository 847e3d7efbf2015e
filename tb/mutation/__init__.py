"""Mutation of the RTL: how many random faults the benches detect (``make mutate``)."""
