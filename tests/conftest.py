"""Common to all tests."""

from __future__ import annotations

import signal

# A shell that starts the tests in the background has them ignore Ctrl-C, and every process that
# they start would ignore it too; the tests of interrupts need it.
signal.signal(signal.SIGINT, signal.default_int_handler)
