"""The accumulator: sums terms into blocks of the result, and drains finished fibers in order."""
