"""Maps a design as `timing` does, and keeps the netlist for the next time."""

import hashlib
import inspect
from dataclasses import dataclass
from pathlib import Path

from .. import memory_cells, timing
from .cells import Library, read_library
from .energy import Analysis
from .netlist import Netlist, read_netlist
from .replay import Level, levels

KEY = "netlist.key"


@dataclass(frozen=True)
class Mapped:
    """A mapped design, ready to be replayed."""

    library: Library
    netlist: Netlist
    order: list[Level]
    analysis: Analysis


def map_design(verilog: str, top: str, liberty: str, folder: Path) -> Mapped:
    """Map a design to a library in `folder`, unless that has been done there.

    Parameters
    ----------
    verilog, top : str
        The design's text and its top module.
    liberty : str
        The library's text.

    Raises
    ------
    RuntimeError
        If Yosys is missing or fails.
    ValueError
        If the library has cells that this does not know.
    """
    library = read_library(liberty)
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(verilog, top, liberty)
    marker = folder / KEY
    if not marker.exists() or marker.read_text() != key:
        marker.unlink(missing_ok=True)
        (folder / "cells.lib").write_text(liberty)
        source = folder / "source.v"
        source.write_text(verilog)
        timing.synthesize(source, top, folder, json_netlist=True)
        marker.write_text(key)
    netlist = read_netlist(folder / "netlist.json", top, library)
    order = levels(netlist)
    return Mapped(library, netlist, order, Analysis(netlist, library, order))


def _key(verilog: str, top: str, liberty: str) -> str:
    """Return what a mapping depends on, as a hash."""
    texts = [verilog, top, liberty, inspect.getsource(timing), inspect.getsource(memory_cells)]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
