"""The chips that the tests of this folder share."""

from tests.rtl.conftest import pair

__all__ = ["pair"]
