"""In which kernels a product of several factors is computed."""
