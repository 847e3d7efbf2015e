"""``python -m loopnest_hw.diagrams`` writes docs/diagrams/: one SVG for each folder of the chip."""

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from amaranth.hdl import UnusedElaboratable
from amaranth.lib import wiring

from ..accumulate.accumulator import Accumulator
from ..cache.cache import Cache
from ..cache.geometry import CacheConfig
from ..chip.chip import Chip
from ..config import EPILOGUE_READS, ChipConfig, make_config
from ..dispatch.dispatcher import Dispatcher
from ..dispatch.weigher import Weigher
from ..leaf.lane import Lane
from ..leaf.leaf import Leaf
from ..pe import PE
from ..program import program
from ..result.combiner import Combiner
from ..result.output import ResultPath
from ..result.writer import Writer
from ..row.front import RowFront
from ..row.row import Row
from ..stream.bank import StreamBank
from ..stream.block_reader import BlockReader
from ..stream.scanner import Scanner
from .connections import PACKAGE, inside
from .drawing import Panel, draw

FOLDER = Path("docs/diagrams")

Unit = Callable[[ChipConfig], wiring.Component]


def _bank(config: ChipConfig) -> StreamBank:
    return StreamBank(
        config,
        scanners=config.scanners,
        values=config.operands,
        words=2 * EPILOGUE_READS,
        lines=config.pool_lines,
    )


def _cache(config: ChipConfig) -> Cache:
    """Return the cache of a chip with four PEs."""
    return Cache(CacheConfig.of(replace(config, pes=4)))


def _shared(unit: Unit) -> Unit:
    """Return a unit of the dispatcher of four PEs."""
    return lambda config: unit(replace(config, pes=4))


UNITS: dict[str, Sequence[Unit]] = {
    "chip": (Chip,),
    "pe": (PE,),
    "dispatch": (_shared(Dispatcher), _shared(Weigher)),
    "stream": (_bank, Scanner, BlockReader),
    "row": (Row, lambda config: RowFront(config, 1)),
    "leaf": (Leaf, Lane),
    "accumulate": (Accumulator,),
    "cache": (_cache,),
    "result": (ResultPath, Combiner, Writer),
}
"""The units of each diagram."""


def diagram(name: str) -> str:
    """Return a diagram as SVG, of the default chip."""
    config = make_config()
    panels = []
    for make in UNITS[name]:
        unit = make(config)
        file = type(unit).__module__.removeprefix(f"{PACKAGE}.").replace(".", "/") + ".py"
        panels.append(Panel(type(unit).__name__, file, inside(unit)))
    return draw(panels, f"Units in hw/loopnest_hw/{name} and their connections")


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="loopnest_hw.diagrams", description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="FOLDER")
    parser.add_argument("names", nargs="*", default=list(UNITS), metavar="NAME")
    options = parser.parse_args(arguments)
    # units are replaced by boxes
    warnings.simplefilter("ignore", UnusedElaboratable)
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        path = options.output / f"{name}.svg"
        path.write_text(diagram(name), encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
