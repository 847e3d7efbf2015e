"""Random kernel descriptors for the benches of the chip around the PE."""

import random

from loopnest_hw.config import COORDINATE_BITS, MOST_COPIES, ChipConfig
from loopnest_hw.descriptor import MAGIC, CellMode, LeafMode, ResultMode, kernel_fields


def sound(config: ChipConfig, rng: random.Random) -> dict[str, int]:
    """Return a descriptor of random fields without a contradiction; its budget is endless."""
    kernel = {f.path: rng.getrandbits(f.bits) for f in kernel_fields(config)}
    kernel |= {"magic": MAGIC, "last": 0, "budget": 0xFFFFFFFF}
    for path, limit in (
        ("leaf_mode", 2),
        ("op1", 2),
        ("op2", 2),
        ("copies", MOST_COPIES),
        ("drain_stop", config.rows),
        ("result.size", 1 << COORDINATE_BITS),
        ("epilogue.bias_mode", 2),
        ("epilogue.scale_mode", 2),
    ):
        kernel[path] = rng.choice((limit, rng.randrange(limit + 1)))
    kernel["accumulate"] |= kernel["copies"] > 0
    for path in ("result.table", "result.blocks", "result.values"):
        kernel[path] &= ~31
    for s in range(config.pool_streams):
        ends = sorted((kernel[f"ring.{s}.base"], kernel[f"ring.{s}.last"]))
        kernel[f"ring.{s}.base"], kernel[f"ring.{s}.last"] = ends

    scanners = list(range(config.scanners))
    rng.shuffle(scanners)
    kernel |= {"row.0.bypass": 0, f"row.{config.rows - 1}.bypass": 0}
    for r in range(config.rows):
        row = f"row.{r}"
        if kernel[f"{row}.bypass"]:
            continue
        kernel[f"{row}.result_mode"] = rng.choice(list(ResultMode))
        kernel[f"{row}.size"] = rng.choice((1 << COORDINATE_BITS, rng.getrandbits(12)))
        ones = rng.randrange(config.operands)
        for o in range(config.operands):
            cell = f"{row}.cell.{o}"
            kernel[f"{cell}.ones"] = int(o == ones)
            kernel[f"{cell}.mode"] = rng.choice((CellMode.HOLD, CellMode.FOLLOW))
            if o != ones and (r == 0 or scanners) and rng.randrange(2):
                kernel[f"{cell}.mode"] = CellMode.SCAN
                if r > 0:
                    kernel[f"{cell}.scanner"] = scanners.pop()
    leaf = f"row.{config.rows - 1}"
    if kernel["leaf_mode"] == LeafMode.AXPY:
        kernel |= {f"{leaf}.result_mode": ResultMode.KEY, f"{leaf}.result_step": 1}
    if kernel["leaf_mode"] == LeafMode.DOT:
        kernel[f"{leaf}.result_mode"] = ResultMode.HOLD
    return kernel
