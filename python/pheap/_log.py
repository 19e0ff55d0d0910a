# SPDX-License-Identifier: MIT
"""The logger "pheap", for programs that have imported logging; others do not pay for its import."""

import sys


def log(level, text, *args):
    """Log it; level is the name of a method of a logger."""
    logging = sys.modules.get("logging")
    if logging is not None:
        getattr(logging.getLogger("pheap"), level)(text, *args)
