"""The result's way out: blocks put together, filled up, run through the epilogue, and written."""
