# SPDX-License-Identifier: MIT
"""A heap for each test, in a directory of its own."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import pheap


class HeapTest(unittest.TestCase):
    """self.heap is open, self.path its path, self.root its root."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="pheap-")
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "a.heap"
        self.heap = pheap.open(self.path, durable=False)
        self.addCleanup(self.close)
        self.root = self.heap.root

    def close(self):
        self.heap._abort()
        self.heap.close()
        # Types, counts and links of everything that the test has left; the command is that of the CMake build.
        command = Path(os.environ.get("PHEAP_BUILD", "."), "tools/pheap")
        if command.exists():
            done = subprocess.run([command, "check", self.path], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def reopen(self):
        """Close the heap and open it again: what is only in memory is gone then."""
        self.heap.close()
        self.heap = pheap.open(self.path, durable=False)
        self.root = self.heap.root
