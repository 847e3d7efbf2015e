"""Reports of runs: figures, the bottleneck, plots and traces."""
