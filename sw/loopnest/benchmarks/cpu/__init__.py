"""The chip beside a CPU: time and energy of eight kernels, each by the CPU's fastest library.

``python -m loopnest.benchmarks.cpu --matrices FOLDER`` runs them.
"""
