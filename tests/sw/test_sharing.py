"""Chips in several threads, in forked processes, copied and pickled."""

import copy
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, ChipError, Epilogue, Memory, RunReport, Tensor
from loopnest.expression.split import OneKernelError
from loopnest.kernel.backends import Counters, ModelBackend
from loopnest.kernel.lower import Kernel
from loopnest_hw.registers import ErrorCode
from loopnest_sim.model.faults import ModelError

CHIP = Chip("tiny", dtype="int8", memory=Memory(latency=7), backend="model", multipliers=8)
THREADS = 4


def product(chip: Chip, seed: int) -> None:
    """Compute a random product on a chip, and check it and the report that the thread finds."""
    rng = np.random.default_rng(seed)
    i, k, j = (int(n) for n in rng.integers(1, 25, 3))
    A, B = (sp.random_array(shape, density=0.3, rng=rng) for shape in ((i, k), (k, j)))
    A.data, B.data = (rng.integers(1, 9, matrix.nnz) for matrix in (A, B))
    ways: tuple[Callable[[], Any], ...] = (
        lambda: chip.matmul(A, B, order="ikj"),
        lambda: chip.einsum("ik,kj->ij", A, B, order="ikj"),
        lambda: chip.compute("C[i,j] = A[i,k] * B[k,j]", order="ikj", A=A, B=B),
    )
    got = ways[seed % 3]()
    assert (got != A @ B).nnz == 0
    report = chip.report
    assert report is not None
    pairs = np.bincount(A.tocoo().coords[1], minlength=k) @ np.diff(B.tocsr().indptr)
    assert report.multiplies == pairs
    assert str(chip.explain("y[i] = A[i,k]", A=A)) == str(CHIP.explain("y[i] = A[i,k]", A=A))


def test_threads_share_a_chip() -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda seed: product(CHIP, seed), range(300)))


def test_the_report_of_a_thread() -> None:
    """A thread sees the report of its own run; one that has run nothing that of the last run."""
    chip = copy.copy(CHIP)
    assert chip.report is None
    with ThreadPoolExecutor(1) as pool:
        pool.submit(chip.matmul, np.eye(3), np.eye(3)).result()
        assert chip.report is not None and chip.report.multiplies == 27
        chip.matmul(np.eye(2), np.eye(2))
        assert chip.report.multiplies == 8
        theirs = pool.submit(lambda: chip.report).result()
        assert theirs is not None and theirs.multiplies == 27


def test_no_report_of_a_run_that_did_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = copy.copy(CHIP)
    chip.matmul(np.eye(2), np.eye(2))
    with monkeypatch.context() as patch:
        patch.setattr("loopnest.program.device.run_kernel", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            chip.matmul(np.eye(3), np.eye(3))
    assert chip.report is None
    chip.matmul(np.eye(2), np.eye(2))
    assert chip.report is not None


def test_a_run_inside_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler may call the chip while it runs."""
    chip = copy.copy(CHIP)
    messages = []

    def handler(*_: Any) -> Any:
        with pytest.raises(RuntimeError, match="in the middle of a run") as caught:
            chip.matmul(np.eye(2), np.eye(2))
        messages.append(caught.value)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("loopnest.program.device.run_kernel", handler)
        with pytest.raises(KeyboardInterrupt):
            chip.matmul(np.eye(3), np.eye(3))
    assert messages
    assert np.array_equal(chip.matmul(np.eye(3), np.eye(3)), np.eye(3))


def test_a_closed_chip() -> None:
    """It keeps its report, computes nothing, and its copies are open."""
    with Chip(backend="model") as chip:
        chip.matmul(np.eye(3), np.eye(3))
    assert chip.report is not None and chip.report.multiplies == 27
    assert "for i" in str(chip.explain("y[i] = A[i,k]", A=np.eye(3)))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^the chip is closed: expected a new one$"):
            chip.matmul(np.eye(3), np.eye(3))
        chip.close()
    with copy.copy(chip) as twin:
        assert np.array_equal(twin.matmul(np.eye(3), np.eye(3)), np.eye(3))
    with pytest.raises(ZeroDivisionError), Chip(backend="model") as chip:
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="the chip is closed"):
        chip.matmul(np.eye(3), np.eye(3))


def test_a_chip_is_closed_after_the_runs_of_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip(backend="model")
    running, refused = threading.Event(), []
    run = ModelBackend.run

    def slow(self: ModelBackend, kernel: Kernel, *rest: Any) -> Counters:
        try:
            chip.close()
        except RuntimeError as error:
            refused.append(str(error))
        running.set()
        time.sleep(0.2)
        return run(self, kernel, *rest)

    monkeypatch.setattr(ModelBackend, "run", slow)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(chip.matmul, np.eye(3), np.eye(3))
        assert running.wait(60)
        chip.close()
        assert np.array_equal(found.result(60), np.eye(3))
    assert len(refused) == 1 and "in the middle of a run" in refused[0]


def in_child(work: Callable[[], None], seconds: int = 60) -> int:
    """Return the exit code of a forked process that does this."""
    child = os.fork()
    if not child:
        signal.alarm(seconds)
        try:
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_fork_while_another_thread_runs() -> None:
    """The child's chip works, whatever was going on, and the parent's goes on."""
    stop = threading.Event()

    def keep_on() -> None:
        seed = 0
        while not stop.is_set():
            product(CHIP, seed := seed + 1)

    def child() -> None:
        product(CHIP, 5)
        os._exit(0)

    with ThreadPoolExecutor(2) as pool:
        threads = [pool.submit(keep_on) for _ in range(2)]
        try:
            assert [in_child(child) for _ in range(20)] == [0] * 20
        finally:
            stop.set()
        for thread in threads:
            thread.result()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes(method: str) -> None:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(product, [CHIP] * 6, range(6)))
        failure = pool.submit(fail, CHIP).exception()
    assert isinstance(failure, ChipError)
    assert (failure.code, failure.where) == (ErrorCode.OVERFLOW, 0)


def fail(chip: Chip) -> None:
    """Let a sum leave int32."""
    large = np.full((1, 2), 2**31 - 1)
    tensor = Tensor.from_dense(large, dtype="int8", wide=True)
    chip.compute("y[i] = A[i,j]", A=tensor)


def twins(thing: Any) -> list[Any]:
    """Return copies of all kinds."""
    pickled = [pickle.loads(pickle.dumps(thing, p)) for p in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    return [copy.copy(thing), copy.deepcopy(thing), *pickled]


def test_a_chip_is_its_settings() -> None:
    for twin in twins(CHIP):
        assert twin.config == CHIP.config and twin.memory == CHIP.memory
        assert twin.report is None
        product(twin, 1)


def test_what_else_is_pickled() -> None:
    A = sp.csr_array(np.arange(12).reshape(3, 4) % 5)
    tensor = Tensor.from_scipy(A, dtype="int8")
    epilogue = Epilogue(bias=[1, 2, 3], relu=True, out="narrow")
    got = CHIP.compute("y[i] = A[i,j]", A=tensor, epilogue=epilogue)
    report = CHIP.report
    assert report is not None
    for twin in twins(tensor):
        assert (twin.to_scipy() != A).nnz == 0
        again = CHIP.compute("y[i] = A[i,j]", A=twin, epilogue=epilogue)
        assert np.array_equal(again.values, got.values)
    for twin in twins(epilogue):
        again = CHIP.compute("y[i] = A[i,j]", A=tensor, epilogue=twin)
        assert np.array_equal(again.values, got.values)
    for twin in twins(report):
        assert isinstance(twin, RunReport)
        assert twin.to_dict() == report.to_dict() and str(twin) == str(report)
    assert twins(CHIP.memory) == [CHIP.memory] * len(twins(CHIP.memory))
    explanation = CHIP.explain("y[i] = A[i,j]", A=tensor)
    assert {str(twin) for twin in twins(explanation)} == {str(explanation)}
    for error in (
        ChipError(ErrorCode.RESULT_FULL, 1, 5),
        ModelError(ErrorCode.RESULT_FULL, 1, 5),
        OneKernelError("two loops"),
    ):
        for twin in twins(error):
            assert type(twin) is type(error) and str(twin) == str(error)
            assert vars(twin) == vars(error)
