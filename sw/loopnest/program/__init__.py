"""Programs: a statement's kernels and what the host does between them, planned before any runs."""
