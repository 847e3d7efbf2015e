"""What a loop nest is expected to take, from what its operands' levels hold."""
