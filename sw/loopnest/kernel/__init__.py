"""A planned nest as the chip takes it, what runs it, and what it leaves."""
