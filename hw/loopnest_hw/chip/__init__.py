"""What surrounds the PE: control registers, command processor, memory ports and counters."""
