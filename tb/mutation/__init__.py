"""Mutation of the RTL: how many random faults the benches notice (``make mutate``)."""
