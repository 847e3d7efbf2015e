"""Operands that expose arithmetic errors."""

import random

SPECIAL_FLOATS = [
    sign << 31 | magnitude
    for sign in (0, 1)
    for magnitude in (
        0x00000000,  # 0
        0x00000001,  # the smallest subnormal
        0x007FFFFF,  # the largest one
        0x00800000,  # the smallest normal number
        0x00800001,
        0x00FFFFFF,
        0x01000000,
        0x3F000000,  # 1/2
        0x3F7FFFFF,  # just below 1
        0x3F7F0000,
        0x3F800000,  # 1
        0x3F800001,
        0x3F810000,
        0x40000000,  # 2
        0x7F7F0000,
        0x7F7FFFFF,  # the largest number
        0x7F800000,  # infinity
        0x7F800001,  # NaNs
        0x7FC00000,
    )
]

SPECIAL_INTEGERS = [
    *(0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535),
    *(0x00FFFFFF, 0x01000000, 0x3FFFFFFF, 0x40000000, 0x7FFFFFFF),
    *(0x80000000, 0x80000001, 0xBFFFFFFF, 0xC0000000, 0xFF000000, 0xFFFFFF80, 0xFFFFFFFF),
]


def random_float(rng: random.Random) -> int:
    """Return fp32 bits: a special value, or random bits, of any length."""
    if rng.random() < 0.1:
        return rng.choice(SPECIAL_FLOATS)
    return rng.getrandbits(32) & rng.choice([-1, -1, -1 << 8, -1 << 16, -1 << 20]) & 0xFFFFFFFF


def float_pairs(rng: random.Random, count: int) -> list[tuple[int, int]]:
    """Return all pairs of special values, and ``count`` random pairs of each kind."""
    pairs = [(a, b) for a in SPECIAL_FLOATS for b in SPECIAL_FLOATS]
    for _ in range(count):
        a = random_float(rng)
        kind = rng.randrange(5)
        if kind == 0:
            b = random_float(rng)
        elif kind == 1:
            # sums that round, halfway cases among them: magnitudes up to 27 places apart
            exponent = max(0, min(254, (a >> 23 & 0xFF) + rng.randint(-27, 27)))
            fraction = rng.getrandbits(23) & rng.choice([-1, -1 << 18, -1 << 22, 0])
            b = rng.getrandbits(1) << 31 | exponent << 23 | fraction
        elif kind == 2:
            # differences that cancel
            b = ((a ^ 1 << 31) + rng.randint(-3, 3)) & 0xFFFFFFFF
        elif kind == 3:
            # products near the smallest normal number
            exponent = max(0, min(254, 127 + 1 - (a >> 23 & 0xFF) + rng.randint(-2, 2)))
            b = rng.getrandbits(1) << 31 | exponent << 23 | rng.getrandbits(23)
        else:
            # products and sums near the largest one
            exponent = max(0, min(254, 127 + 254 - (a >> 23 & 0xFF) + rng.randint(-2, 2)))
            b = rng.getrandbits(1) << 31 | exponent << 23 | rng.getrandbits(23)
        pairs.append((a, b))
    return pairs


def integer_pairs(rng: random.Random, count: int) -> list[tuple[int, int]]:
    """Return all pairs of special values, and ``count`` random pairs of all bit lengths."""

    def integer() -> int:
        bits = rng.randrange(1, 33)
        return (rng.getrandbits(bits) - (1 << bits - 1)) & 0xFFFFFFFF

    pairs = [(a, b) for a in SPECIAL_INTEGERS for b in SPECIAL_INTEGERS]
    return pairs + [(integer(), integer()) for _ in range(count)]
