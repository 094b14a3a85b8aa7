"""For all tests."""

import signal

# A shell starts what it runs in the background with Ctrl-C ignored, and processes pass that on to their
# children. The tests of Ctrl-C need children that hear it, however the tests were started.
signal.signal(signal.SIGINT, signal.default_int_handler)
