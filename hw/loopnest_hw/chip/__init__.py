"""The units around the PE: control registers, command processor, memory ports and counters."""
