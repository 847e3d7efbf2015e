"""Chooses the kernels that compute a product of several factors."""
