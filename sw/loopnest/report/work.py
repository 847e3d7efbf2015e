"""The work of a kernel that has run, from its counters and the sizes of its tensors."""

from loopnest_hw.config import LINE_BYTES
from loopnest_hw.descriptor import pack, unpack
from loopnest_hw.format import ENTRY_WORDS, WORD_BYTES
from loopnest_sim.image import Image
from loopnest_sim.roof import Work, measure

from ..formats.tensor import Tensor
from ..kernel.lower import value_bytes
from .bottleneck import Run


def work_of(run: Run) -> Work:
    """Return the work of a kernel. The golden model counts it; the chip's counters are that of one
    pass as well, unless there were further passes, whose steps and lines they include.

    The lines read include an epilogue's biases and scales. The chip does not count which bytes it
    uses of its lines: the bytes read are those of the operands' arrays, each once, or of all lines
    read where these are fewer, since only a part of the operands is used. Nor does it count the
    lines that are taken.
    """
    counters = run.counters
    if counters.work is not None:
        return counters.work
    counted = counters.values
    return Work(
        useful_lanes=counted["multiplies"],
        steps=counted["leaf_steps"],
        lines_taken=0,
        lines_read=counted["lines_read"],
        lines_written=counted["lines_written"],
        bytes_read=min(_operand_bytes(run), LINE_BYTES * counted["lines_read"]),
        bytes_written=min(_result_bytes(run), LINE_BYTES * counted["lines_written"]),
    )


def golden_work(run: Run) -> Work:
    """Return the work of a kernel in one pass, from its tensors alone: the golden model runs it. Of
    a kernel in a list, whose operands are results, it is that of the counters.
    """
    if run.counters.work is not None or not run.kernel.segments:
        return work_of(run)
    image = Image()
    for address, array in run.kernel.segments:
        image.write(address, array)
    return measure(run.config, image, unpack(run.config, pack(run.config, run.kernel.fields)))


def _operand_bytes(run: Run) -> int:
    """Return the bytes of the operands' arrays, each once; of a mask's values there is one word."""
    kernel = run.kernel
    mask = kernel.plan.mask
    read = {id(t): t for c, t in enumerate(kernel.tensors) if c != mask}
    total = sum(tensor.nbytes for tensor in read.values())
    if mask is not None:
        tensor = kernel.tensors[mask]
        assert isinstance(tensor, Tensor)
        total += _level_bytes(tensor) + WORD_BYTES
    return total


def _level_bytes(tensor: Tensor) -> int:
    return tensor.nbytes - tensor.values.nbytes


def _result_bytes(run: Run) -> int:
    """Return the bytes of the result."""
    kernel, counted = run.kernel, run.counters.values
    result = kernel.plan.result
    size = value_bytes(run.config.dtype, kernel.narrow)
    if not result.compressed:
        return result.places * size
    # if an inner loop has no coordinate, the end of an outer one's is written as a fiber's
    table = max(1, result.fibers) * ENTRY_WORDS
    return WORD_BYTES * (table + counted["result_blocks"]) + size * counted["result_values"]
