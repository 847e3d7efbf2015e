"""One kernel on a backend: lowered, run, and its result read back."""

from loopnest_hw.config import ChipConfig
from loopnest_hw.registers import ErrorCode

from .evaluate import Task, pack_operands
from .formats.pack import COMPRESSED
from .formats.tensor import Tensor
from .kernel.backends import Backend, ChipError, Counters
from .kernel.lower import Kernel, lower
from .kernel.readback import read_compressed, read_dense


def run_task(config: ChipConfig, backend: Backend, task: Task) -> tuple[Tensor, Kernel, Counters]:
    """Run a kernel, and once more where its result did not fit: the chip tells how large it is.
    Return the result with the kernel.
    """
    tensors = pack_operands(task.plan)
    room: int | None = None
    while True:
        kernel = lower(config, task.plan, tensors, epilogue=task.epilogue, room=room)
        try:
            counters = backend.run(kernel)
            break
        except ChipError as error:
            if error.code is not ErrorCode.RESULT_FULL or error.needed <= kernel.room:
                raise
            room = error.needed
    if COMPRESSED in task.levels:
        result = read_compressed(kernel, config.dtype, backend.read, task.levels)
    else:
        result = read_dense(kernel, config.dtype, backend.read)
    return result, kernel, counters
