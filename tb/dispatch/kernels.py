"""Random kernels for the dispatcher's benches: row 0 shared out, and the level below it."""

import random

from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import CellMode, pack, unpack


def complete(config: ChipConfig, fields: dict[str, int]) -> dict[str, int]:
    """Return all fields of a descriptor, those that are not given as 0."""
    return unpack(config, pack(config, fields))


def inner_fields(config: ChipConfig, rng: random.Random) -> dict[str, int]:
    """Return random settings of the rows below row 0 and of the scanners."""
    fields = {}
    for r in range(1, config.rows):
        fields[f"row.{r}.bypass"] = int(rng.random() < 0.5)
        for o in range(config.operands):
            mode = rng.choice([CellMode.SCAN, CellMode.SCAN, CellMode.HOLD, CellMode.FOLLOW])
            fields[f"row.{r}.cell.{o}.mode"] = mode
            fields[f"row.{r}.cell.{o}.scanner"] = rng.randrange(config.scanners)
    for s in range(config.scanners):
        fields[f"scanner.{s}.open"] = rng.getrandbits(1)
        # the bits within a line are ignored
        fields[f"scanner.{s}.table"] = LINE_BYTES * rng.getrandbits(27) + rng.randrange(LINE_BYTES)
    return fields


def share_fields(rng: random.Random) -> dict[str, int]:
    """Return a random division of row 0 among the PEs."""
    return {
        "share.rows": int(rng.random() < 0.85),
        "share.wide": rng.getrandbits(1),
        "share.quantum": rng.choice([0, 1, 1, 5, 16, 64, 200, 0xFFFF]),
        "share.credit": rng.choice([0, 1, 24, 160, 1000, 0xFFFF]),
    }
