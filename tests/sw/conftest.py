"""Fixtures of the runtime's tests."""

import pytest

from loopnest import ChipError
from loopnest.program import device
from loopnest_hw.registers import ErrorCode


@pytest.fixture
def slots_run_out(monkeypatch):
    """Returns a function that makes one kernel end with SLOTS, the first one or that of a result,
    and starts of several always; it returns the list of kernels that did.
    """
    real = device.run_kernel

    def begin(result=None):
        failed = []

        def fails(config, backend, step, *rest):
            if not failed and result in (None, step.result.name):
                failed.append(step)
                raise ChipError(ErrorCode.SLOTS, 0)
            return real(config, backend, step, *rest)

        def fails_too(*_):
            raise ChipError(ErrorCode.SLOTS, 0)

        monkeypatch.setattr(device, "run_kernel", fails)
        monkeypatch.setattr(device, "run_start", fails_too)
        return failed

    return begin
