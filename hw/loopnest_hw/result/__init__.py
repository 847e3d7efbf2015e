"""The result path: assembles, combines and fills blocks, applies the epilogue, and writes them."""
