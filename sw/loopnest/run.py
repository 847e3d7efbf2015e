"""Runs one kernel on a backend: lowers it, runs it, and reads its result back."""

from loopnest_hw.config import ChipConfig
from loopnest_hw.registers import ErrorCode

from .evaluate import Task, pack_operands
from .formats.pack import COMPRESSED
from .formats.tensor import Tensor
from .kernel.backends import Backend, ChipError, Counters
from .kernel.lower import Kernel, lower
from .kernel.readback import read_compressed, read_dense
from .progress import Watch, running


def run_task(
    config: ChipConfig, backend: Backend, task: Task, progress: bool | Watch = False
) -> tuple[Tensor, Kernel, Counters]:
    """Run a kernel, and again with more capacity if its result did not fit: the chip reports the
    size. Return the result, the kernel and the counters.
    """
    tensors = pack_operands(task.plan)
    capacity: int | None = None
    while True:
        kernel = lower(config, task.plan, tensors, epilogue=task.epilogue, capacity=capacity)
        try:
            with running(str(task.plan.statement), task.plan.cycles, progress) as tick:
                counters = backend.run(kernel, tick)
            break
        except ChipError as error:
            if error.code is not ErrorCode.RESULT_FULL or error.needed <= kernel.capacity:
                raise
            capacity = error.needed
    if COMPRESSED in task.levels:
        result = read_compressed(kernel, config.dtype, backend.read, task.levels)
    else:
        result = read_dense(kernel, config.dtype, backend.read)
    return result, kernel, counters
