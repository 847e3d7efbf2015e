"""The model of a whole kernel against the token-by-token model, on random nests."""

import numpy as np
import pytest

from loopnest_hw.config import ChipConfig, make_config
from loopnest_hw.registers import ErrorCode
from loopnest_sim.image import Image
from loopnest_sim.model import fibers
from loopnest_sim.model.epilogue import epilogue
from loopnest_sim.model.faults import Faults, ModelError
from loopnest_sim.model.kernel import run_checked, run_kernel
from loopnest_sim.model.watch import Watch
from loopnest_sim.model.write import write

from .nests import OUTPUT, random_kernel
from .token_by_token import TokenByToken


def random_config(rng: np.random.Generator) -> ChipConfig:
    return make_config(
        dtype=str(rng.choice(["int8", "bf16"])),
        multipliers=int(rng.choice([1, 2, 4, 8, 16])),
        operands=int(rng.choice([2, 3])),
        rows=int(rng.integers(2, 5)),
    )


def work_of(config: ChipConfig, image: Image, d: dict[str, int]) -> int:
    """Return the steps of a kernel, or -1 where it has none."""
    regions = {"result.blocks_end": 3 * OUTPUT, "result.values_end": 8 * OUTPUT}
    result = run_checked(config, image.copy(), d | regions, Watch(), Faults())
    return result.steps + result.empty_steps if result.steps else -1


@pytest.mark.parametrize("seed", range(100))
def test_random_nests(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    config = random_config(rng)
    image, d = random_kernel(rng, config)
    # many random nests have no kept lanes; a tenth of those is enough
    while (work := work_of(config, image, d)) > 800 or (work < 0 and rng.random() < 0.9):
        image, d = random_kernel(rng, config)
    # chunks of all sizes, down to a token
    monkeypatch.setattr(fibers, "CHUNK_BLOCKS", int(rng.choice([1, 7, 100, 1 << 17])))
    plain = TokenByToken(config, image, d)
    blocks = plain.run()
    expected = image.copy()
    finished, _ = epilogue(blocks, d, config.dtype, image)
    written = write(finished, d, config.dtype, expected)
    try:
        result = run_kernel(config, image, d)
    except ModelError as error:
        # what fits is written nevertheless, and so are sums that wrapped
        if error.code is ErrorCode.RESULT_FULL:
            full = (written.blocks_full, written.values_full, written.table_full)
            assert error.where == full.index(True)
        else:
            assert error.code in (ErrorCode.OVERFLOW, ErrorCode.SLOTS)
    else:
        assert not (written.blocks_full or written.values_full or written.table_full)
        assert result.steps == plain.steps
        assert result.multiplies == plain.multiplies
    assert image.extent == expected.extent
    np.testing.assert_array_equal(image.read(0, image.extent), expected.read(0, image.extent))


def test_bad_descriptor() -> None:
    config = make_config()
    image, d = random_kernel(np.random.default_rng(0), config)
    for path, value in (("magic", 0), ("leaf_mode", 3), ("row.0.cell.0.mode", 3)):
        with pytest.raises(ModelError, match="BAD_DESCRIPTOR at 0"):
            run_kernel(config, image, d | {path: value})
