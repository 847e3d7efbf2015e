"""The chips that the tests of this folder share."""

import pytest

from tests.rtl.chips import Pair


@pytest.fixture(scope="session")
def pair(request: pytest.FixtureRequest) -> Pair:
    """Return the chip that the test's parameter names."""
    return Pair(request.param)
