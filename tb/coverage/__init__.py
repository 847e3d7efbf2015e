"""Line coverage of the RTL by all benches: ``make coverage``."""
