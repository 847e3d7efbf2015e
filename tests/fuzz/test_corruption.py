"""Some of the corrupted kernels of `make fuzz`."""

from collections import Counter

from tests.fuzz.corruption import run_seed
from tests.rtl.chips import TWO_PORTS, Pair, on

CASES = 45


@on("shrunk/int8", TWO_PORTS, "single/bf16")
def test_corruption(pair: Pair) -> None:
    ended = Counter(run_seed(pair, seed) for seed in range(CASES))
    # Many corrupted bits are not used by the kernel, but some must cause errors.
    assert ended["right"] < 0.9 * CASES
    assert len(ended) > 4
