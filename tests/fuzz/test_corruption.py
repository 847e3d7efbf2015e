"""Some of the spoilt kernels of `make fuzz`."""

from collections import Counter

from tests.fuzz.corruption import run_seed
from tests.rtl.chips import Pair, on

CASES = 45


@on("shrunk/int8", "tiny/bf16")
def test_corruption(pair: Pair) -> None:
    ended = Counter(run_seed(pair, seed) for seed in range(CASES))
    # Many spoilt bits stand where no kernel looks; but some must hurt.
    assert ended["right"] < 0.9 * CASES
    assert len(ended) > 4
