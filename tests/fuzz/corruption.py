"""Kernels with a corrupted descriptor, tensor or bus response, each determined by its seed.

The chip must end each with an error that the golden model predicts for the same memory, or with the
model's result; it must not write outside the result's regions, and its next kernel must be correct.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest import Chip, Memory
from loopnest.kernel.backends import DONE, INTERRUPT_ENABLE, LATE, SOFT_RESET, START
from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import Output, descriptor_lines, unpack
from loopnest_hw.format import BLOCK_MASK_BITS, ENTRY_BYTES, OPEN_STRIDE, WORD_BYTES
from loopnest_hw.registers import OFFSETS, PE_SHIFT, ErrorCode
from loopnest_sim.image import Image
from loopnest_sim.model.check import regions as regions_of
from loopnest_sim.model.check import result_regions
from loopnest_sim.model.prefetch import prefetched_lines
from loopnest_sim.model.run import Run, run_kernels
from tests.rtl.chips import Pair

from .corrupted import BUDGET, NEST, SOUND_BUDGET, Case, Segments, image_of, make_case

SLACK = 8_000
"""Cycles after the budget within which the bus must be idle."""

MAX_CYCLES_PER_WORK = 200
"""Upper bound of the cycles for each unit of work (`Run.work`)."""

MASK = (1 << BLOCK_MASK_BITS) - 1

SHOWN = 1 << 16
"""Maximum bytes of a region that are compared."""


def run_seed(pair: Pair, seed: int) -> str:
    """Run a seed's case on the RTL; return the outcome. An error's message shows the case."""
    case = make_case(seed, pair)
    try:
        return check(pair, case)
    except Exception as error:
        error.add_note(str(case))
        raise


def check(pair: Pair, case: Case) -> str:
    """Run the case and a valid kernel after it; return the error's name, or "right".

    Raises
    ------
    AssertionError
        If the chip violates its specification.
    """
    config = pair.model.config
    image = image_of(case.segments)
    budget = unpack(config, case.segments[0][1].view("<u4"))["budget"]
    expected = run_kernels(config, image, case.start)
    chip = _simulator(pair, case.memory)
    end = max(address + len(data) for address, data in case.sound) + LINE_BYTES
    for address, data in case.segments:
        chip.write(address, data.tobytes())
    chip.confine(expected.regions)
    chip.fail(read=case.read_error, write=case.write_error)
    limit = (expected.completed + 1) * (BUDGET + SLACK) + config.watchdog
    code, where = _run(chip, case.start, limit, case.silence)
    assert not chip.violations, chip.violations
    ended = f"{code.name} at {where}"
    if code is ErrorCode.TIMEOUT:
        assert case.silence, ended
    elif code in (ErrorCode.READ_ERROR, ErrorCode.WRITE_ERROR):
        assert chip.errors_answered, ended
    elif code is ErrorCode.BUDGET and (code, where) not in expected.errors:
        work = MAX_CYCLES_PER_WORK * (expected.work + 20)
        assert where <= expected.completed, ended
        # a memory that stops answering may be detected later than that
        assert case.silence or budget < work, f"{ended}, {expected}"
    elif code is ErrorCode.NONE:
        assert not expected.errors, f"no error: expected one of {expected.errors}"
        # an error of a line that was only read ahead is none
        ahead = any(
            len(p) for k in _kernels(config, case.segments) for p in prefetched_lines(config, k)
        )
        ignored = int(ahead and case.read_error > 0 and not case.write_error)
        assert chip.errors_answered <= ignored, "no error, though the memory answered with one"
        kernels = _kernels(config, case.segments)[: expected.completed]
        unknown = [*expected.counters]
        if case.done or case.statement == NEST:
            unknown += _shared_places(kernels)
        compared = [(0, end), *expected.regions]
        _compare(chip, image, compared, unknown, config, kernels, expected.entries)
    elif config.pes > 1 and code is ErrorCode.RESULT_FULL:
        # The model does not know the pieces of a region, nor what a corrupted field says of them.
        assert case.done, ended
    else:
        # of which PE
        where %= 1 << PE_SHIFT
        assert (code, where) in expected.errors, f"{ended}: expected one of {expected.errors}"
    _check_next(chip, config, case, code, end)
    return code.name.lower() if code else "right"


def _check_next(chip: Any, config: ChipConfig, case: Case, code: ErrorCode, end: int) -> None:
    """Assert that the valid kernel is correct after the corrupted one."""
    chip.mute(False)
    chip.fail()
    if code:
        chip.set_register(OFFSETS["control"], SOFT_RESET)
        chip.step(100)
        for _ in range(100):
            if not chip.register(OFFSETS["status"]) & LATE:
                break
            chip.step(100)
    image = image_of(case.sound)
    expected: Run = run_kernels(config, image, case.start)
    assert not expected.errors
    end = max([end, *(region_end for _, region_end in expected.regions)])
    chip.write(0, bytes(end))
    for address, data in case.sound:
        chip.write(address, data.tobytes())
    chip.confine(expected.regions)
    ended, where = _run(chip, case.start, 2 * (SOUND_BUDGET + SLACK), 0)
    assert ended is ErrorCode.NONE, f"the next kernel ended with {ended.name} at {where}"
    assert not chip.violations, chip.violations
    kernels = _kernels(config, case.sound)
    unknown = [*expected.counters]
    if case.statement == NEST:
        unknown += _shared_places(kernels)
    _compare(chip, image, [(0, end)], unknown, config, kernels, expected.entries)


def _run(chip: Any, start: int, limit: int, silence: int) -> tuple[ErrorCode, int]:
    """Start the kernels, and return the error that they end with."""
    chip.set_register(OFFSETS["status"], DONE)
    chip.set_register(OFFSETS["kernels"], start)
    chip.set_register(OFFSETS["control"], START | INTERRUPT_ENABLE)
    if silence:
        chip.step(silence)
        chip.mute(True)
    chip.run_until_interrupt(limit)
    code = ErrorCode(chip.register(OFFSETS["error"]))
    return code, int(chip.register(OFFSETS["error_where"]))


def _kernels(config: ChipConfig, segments: Segments) -> list[dict[str, int]]:
    """Return the descriptors of a case's list."""
    words = segments[0][1].view("<u4")
    size = descriptor_lines(config) * LINE_BYTES // WORD_BYTES
    return [unpack(config, words[at : at + size]) for at in range(0, len(words), size)]


def _shared_places(kernels: list[dict[str, int]]) -> list[tuple[int, int]]:
    """Return the regions of dense results that several PEs write: in a nest that the compiler would
    not generate, rows may have places in common, and which PE writes last is not defined.
    """
    shared = [k for k in kernels if k.get("share.rows") and not k["result.compressed"]]
    return [result_regions(kernel)["values"] for kernel in shared]


def _compare(
    chip: Any,
    image: Image,
    regions: list[tuple[int, int]],
    unknown: list[tuple[int, int]],
    config: ChipConfig,
    kernels: list[dict[str, int]],
    entries: NDArray[np.int64],
) -> None:
    """Compare regions of the memory, without those that the model does not know. Where several PEs
    write the fibers of a compressed result, they lie in any order. ``entries`` are those of the
    last kernel's result: the rest of its table holds what was there before.
    """
    unordered = [k for k in kernels if k["result.compressed"] and k.get("share.rows")]
    for kernel in unordered:
        places = regions_of(config, kernel)
        if kernel is kernels[-1]:
            begin, _ = places.pop("table")
            entries = entries[entries < begin + SHOWN]
            unknown = [*unknown, *((int(a), int(a) + ENTRY_BYTES) for a in entries)]
            _compare_fibers(chip.read, image.read, config, kernel, entries)
        unknown = [*unknown, *places.values()]
    for begin, end in regions:
        size = min(end - begin, SHOWN)
        got = np.frombuffer(chip.read(begin, size), np.uint8)
        differ = got != image.read(begin, size)
        for unknown_begin, unknown_end in unknown:
            differ[max(unknown_begin - begin, 0) : max(unknown_end - begin, 0)] = False
        wrong = np.flatnonzero(differ)
        assert not len(wrong), f"{len(wrong)} bytes are wrong, the first at {begin + wrong[0]:#x}"


def _compare_fibers(
    read: Callable[[int, int], Any],
    golden: Any,
    config: ChipConfig,
    kernel: dict[str, int],
    entries: NDArray[np.int64],
) -> None:
    """Compare the fibers that have these entries, wherever they are."""
    narrow = kernel["result.output"] == Output.NARROW
    size = config.dtype.narrow_bytes if narrow else WORD_BYTES
    for entry in entries.tolist():
        found = []
        for source in (read, golden):
            first, child, end, _ = _words(source, entry, OPEN_STRIDE).tolist()
            words = _words(source, kernel["result.blocks"] + WORD_BYTES * first, end - first)
            lanes = int(np.bitwise_count(words & np.uint32(MASK)).sum())
            values = bytes(source(kernel["result.values"] + size * child, size * lanes))
            found.append((words.tolist(), values))
        assert found[0] == found[1], f"entry {entry:#x}: {found}"


def _words(read: Callable[[int, int], Any], address: int, count: int) -> NDArray[np.uint32]:
    return np.frombuffer(bytes(read(address, WORD_BYTES * count)), "<u4")


def _simulator(pair: Pair, memory: Memory) -> Any:
    settings = {"dtype": pair.dtype, "memory": memory, "progress": False}
    chip = Chip(pair.preset, **settings, **pair.overrides)
    backend: Any = chip.device.shared.backend
    return backend._simulator
