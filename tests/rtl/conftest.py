"""The chips that the tests of this folder share."""

from collections.abc import Iterator

import pytest

import loopnest_hw.export
from tests.rtl.chips import Pair, verilog


@pytest.fixture(scope="session", autouse=True)
def exported_once() -> Iterator[None]:
    """Let every chip take its Verilog from the cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loopnest_hw.export, "chip_verilog", verilog)
        yield


@pytest.fixture(scope="session")
def pair(request: pytest.FixtureRequest) -> Pair:
    """Return the chip that the test's parameter names."""
    preset, dtype = request.param.split("/")
    return Pair(preset, dtype)
