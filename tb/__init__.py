"""Benches: cocotb tests of the generated Verilog, and proofs. See `tb.harness`."""
