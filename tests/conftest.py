"""What all tests need of their process."""

import signal

# A process that a shell starts in the background ignores SIGINT, and so do those that it starts:
# tests of Ctrl-C need Python's handler.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
