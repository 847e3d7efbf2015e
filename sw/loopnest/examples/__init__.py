"""Programs that show the chip at work."""
