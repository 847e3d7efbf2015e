"""Models of other programs as graphs, and weights from files."""
