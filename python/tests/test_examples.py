# SPDX-License-Identifier: MIT
"""The examples run, and print what they should."""

import re
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
README = EXAMPLES.parents[1] / "README.md"


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

    def test_session(self):
        # Would catch a demonstration that fails before a user's eyes.
        out = self.run_example("session.py")
        self.assertIn(">>> heap.root['ages']\n{'Joe': 28, 'Ann': 31, 'Bob': 7}\n", out)

    def test_readme(self):
        # Would catch a README that promises what does not run, or another output.
        text = README.read_text()
        (program,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
        (output,) = re.findall(r"^prints `(.*?)`", text, re.M)
        (tree,) = re.findall(r"^    \$ python -m pheap show notes.heap\n((?:    .*\n)+)", text, re.M)
        with tempfile.TemporaryDirectory(prefix="pheap-") as directory:
            for arguments, expected in ((["-c", program], output + "\n"), (["-m", "pheap", "show", "notes.heap"], tree)):
                done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=directory)
                self.assertEqual((done.stdout, done.stderr), (textwrap.dedent(expected), ""))

    def test_sensors(self):
        out = self.run_example("sensors.py")
        self.assertIn("count=5, sum=112.5, name=b'roof'", out)
        self.assertIn("Ring in a heap of 3", out)
        self.assertIn("1000 [0.0, 1.5, 0.0]", out)
