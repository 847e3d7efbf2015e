"""The kernel descriptor as the hardware holds it: a struct of `descriptor.kernel_fields`."""

from typing import Any

from amaranth.hdl import Value
from amaranth.lib import data

from .config import ChipConfig
from .descriptor import kernel_fields


def kernel_layout(config: ChipConfig) -> data.StructLayout:
    """Return the layout whose members follow the fields' dotted paths; numbers index arrays."""
    tree: dict[str, Any] = {}
    for field in kernel_fields(config):
        *parents, leaf = field.path.split(".")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[leaf] = field.bits

    def layout(node: Any) -> Any:
        if isinstance(node, int):
            return node
        if "0" in node:
            return data.ArrayLayout(layout(node["0"]), len(node))
        return data.StructLayout({name: layout(child) for name, child in node.items()})

    return layout(tree)


def inner_loops(config: ChipConfig, kernel: data.View) -> Value:
    """Return the number of loops below row 0 that a `kernel_layout` runs."""
    loops: Value = sum(~kernel.row[r].bypass for r in range(1, config.rows))
    return loops
