"""The vector leaf: cuts joined blocks into steps of up to M lanes, and computes their terms."""
