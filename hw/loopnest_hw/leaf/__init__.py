"""The vector leaf: joined blocks to steps of up to M lanes, their values, operators and sums."""
