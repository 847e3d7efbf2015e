"""One kernel on a backend: lowered, run, and its result read back."""

from loopnest_hw.config import ChipConfig
from loopnest_hw.registers import ErrorCode

from .backends import Backend, ChipError, Counters
from .evaluate import Task, pack_operands
from .lower import Kernel, lower
from .pack import COMPRESSED
from .readback import read_compressed, read_dense
from .tensor import Tensor

MORE_ROOM = 8
"""Factor by which the result's room grows where it was too small."""


def run_task(config: ChipConfig, backend: Backend, task: Task) -> tuple[Tensor, Kernel, Counters]:
    """Run a kernel, with more room where its result did not fit; return the result with it."""
    tensors = pack_operands(task.plan)
    room: int | None = None
    while True:
        kernel = lower(config, task.plan, tensors, epilogue=task.epilogue, room=room)
        try:
            counters = backend.run(kernel)
            break
        except ChipError as error:
            if error.code is not ErrorCode.RESULT_FULL or kernel.room >= kernel.most:
                raise
        room = max(1, kernel.room) * MORE_ROOM
    if COMPRESSED in task.levels:
        result = read_compressed(kernel, config.dtype, backend.read, task.levels)
    else:
        result = read_dense(kernel, config.dtype, backend.read)
    return result, kernel, counters
