"""The observer interface of a model run."""

from typing import Any

from numpy.typing import NDArray


class Watch:
    """Receives every access, as byte addresses in the order of the nest. This base class ignores
    them.

    A stream's accesses may come in several calls; those of one stream keep their order.
    """

    def entries(self, row: int, operand: int, addresses: NDArray[Any]) -> None:
        """Position entries that a cell reads: address of the first of their three words."""

    def blocks(self, row: int, operand: int, addresses: NDArray[Any]) -> None:
        """Block words that a cell reads."""

    def values(self, operand: int, addresses: NDArray[Any], size: int) -> None:
        """Values of kept lanes, of ``size`` bytes each."""

    def epilogue(self, addresses: NDArray[Any]) -> None:
        """Biases and scales that the epilogue reads, of 4 bytes each."""

    def result_entries(self, addresses: NDArray[Any]) -> None:
        """Entries of the result's table."""

    def result_blocks(self, addresses: NDArray[Any]) -> None:
        """The result's block words."""

    def result_values(self, addresses: NDArray[Any], size: int) -> None:
        """The result's values, of ``size`` bytes each."""
