"""Layers of convolutional networks: images in the chip's memory, and layers as statements."""
