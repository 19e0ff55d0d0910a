# SPDX-License-Identifier: MIT
"""The logger "pheap", for programs that have imported logging; others do not pay for its import."""

import sys


def log(level, text, *args):
    """Log it; level is the name of a method of a logger."""
    logging = sys.modules.get("logging")
    if logging is None:
        return
    logger = logging.getLogger("pheap")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())  # else a program that wants no logs would find them on its stderr
    getattr(logger, level)(text, *args)
