"""The cost model: the expected cycles of a loop nest, from the contents of its operands' levels."""
