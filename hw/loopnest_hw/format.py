"""The compressed format's memory layout, for hardware, model and runtime alike.

======================  =====================================================================
unit                    meaning
======================  =====================================================================
block word              32 bits, ``{coordinate: 16, mask: 16}``, the mask in the low half:
                        bit b says that coordinate ``16 * coordinate + b`` is present. A fiber's
                        words are strictly ascending, and no mask is 0.
position entry          3 words of 32 bits: the fiber's first block word, its first child, and
                        the end of its block words. Blocks are counted in block words from the
                        level's first one.
position table          entry p starts at word ``stride * p``. Stride 2 is packed: the end is the
                        next entry's first word, and n fibers take ``2 * n + 1`` words. Stride 4
                        has the end in each entry's third word: fibers may lie in any order.
child                   the k-th present coordinate of a fiber has the child position
                        ``first child + k * child_step``: the position of the next level's fiber,
                        or of a value. ``child_step`` is the size of the dense levels beneath, or
                        1.
value                   narrow (int8, bf16) or wide (int32, fp32), little endian, at
                        ``base + position * bytes``.
======================  =====================================================================

Every array starts at a line (32 bytes). Positions have 32 bits, coordinates 20.
"""

from .config import LINE_BYTES

WORD_BYTES = 4
LINE_WORDS = LINE_BYTES // WORD_BYTES

BLOCK_COORDINATE_BITS = 16
BLOCK_MASK_BITS = 16
PAIR_BITS = BLOCK_COORDINATE_BITS - 1
"""Bits of the number of a pair of blocks."""

ENTRY_WORDS = 3
"""Words read of a position entry: first block word, first child, end."""

PACKED_STRIDE = 2
"""Words between the entries of a packed position table."""

OPEN_STRIDE = 4
"""Words between the entries of a table whose fibers may be stored in any order."""

ENTRY_BYTES = OPEN_STRIDE * WORD_BYTES
"""Bytes of an entry of such a table; a result's table is one."""

CHUNK_LANES = LINE_WORDS
"""Lanes whose values are written together, or dropped together at the end of their region: a line
of wide values.
"""
