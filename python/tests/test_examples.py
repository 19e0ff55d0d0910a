# SPDX-License-Identifier: MIT
"""The examples run, and print what they should."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


class Examples(unittest.TestCase):
    def run_example(self, name):
        with tempfile.TemporaryDirectory(prefix="pheap-") as directory:
            program = [sys.executable, "-X", "dev", EXAMPLES / name, directory + "/a.heap"]
            done = subprocess.run(program, capture_output=True, text=True, timeout=60)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            return done.stdout

    def test_foobar(self):
        # Would catch an example that does not run any more.
        self.assertRegex(self.run_example("foobar.py"), r"(?s)Foo\n.*Foobar.*bytes of log.*600 bytes, of which.*b'bar'")

    def test_sensors(self):
        out = self.run_example("sensors.py")
        self.assertIn("count=5, sum=112.5, name=b'roof'", out)
        self.assertIn("Ring in a heap of 3", out)
        self.assertIn("1000 [0.0, 1.5, 0.0]", out)
