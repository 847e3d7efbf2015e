"""Crops of text as a text detector cuts them out: words, upright and upside down."""

from math import ceil

import numpy as np
from numpy.typing import NDArray

from ..frontends.extras import require

HEIGHT, WIDTH = 48, 192
"""Of the classifier's input."""

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def draw_crops(count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw words with Pillow, every second one upside down.

    Returns
    -------
    crops : array of float32, (count, 3, 48, 192)
        Scaled to the height, from -1 to 1, and 0 to the right of what is narrower.
    labels : array of int64, (count,)
        1 for upside down.
    """
    names = ("Image", "ImageDraw", "ImageFont")
    image, draw, font = (require(f"PIL.{name}", "models") for name in names)
    rng = np.random.default_rng(seed)
    letters = font.load_default(size=32)
    crops = np.zeros((count, 3, HEIGHT, WIDTH), np.float32)
    labels = np.arange(count) % 2
    for crop, label in zip(crops, labels, strict=True):
        text = "".join(rng.choice(list(LETTERS), rng.integers(5, 11)))
        left, top, right, bottom = letters.getbbox(text)
        paper, ink = rng.integers(170, 256, 3), rng.integers(0, 90, 3)
        edge = int(rng.integers(3, 8))
        size = (int(right - left) + 2 * edge, int(bottom - top) + 2 * edge)
        picture = image.new("RGB", size, tuple(map(int, paper)))
        draw.Draw(picture).text((edge - left, edge - top), text, tuple(map(int, ink)), letters)
        if label:
            picture = picture.rotate(180)
        width = min(WIDTH, ceil(HEIGHT * size[0] / size[1]))
        pixels = np.asarray(picture.resize((width, HEIGHT), image.Resampling.BILINEAR), np.float32)
        noisy = np.clip(pixels + rng.normal(0, 8, pixels.shape), 0, 255)
        crop[:, :, :width] = noisy.transpose(2, 0, 1) / 127.5 - 1
    return crops, labels
