# SPDX-License-Identifier: MIT
"""pip install, without an index."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]


class Install(unittest.TestCase):
    def test_without_an_index(self):
        # Would catch a file that the package lacks, and a dependency that only an index has.
        for module in ("pip", "wheel"):
            if importlib.util.find_spec(module) is None:
                self.skipTest(f"{module} is missing (Debian: python3-{module})")
        if "PHEAP_BUILD" not in os.environ:
            self.skipTest("PHEAP_BUILD does not say where libpheap.a is")
        with tempfile.TemporaryDirectory(prefix="pheap-") as directory:
            target = Path(directory) / "site"
            pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--no-deps"]
            done = subprocess.run(
                [*pip, "--disable-pip-version-check", "--target", target, SOURCE], capture_output=True, text=True
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertTrue((target / "pheap/_pheap.abi3.so").exists())
            program = "import sys, pheap\nwith pheap.open(sys.argv[1]) as h: h.root['a'] = 1; print(pheap.__file__)"
            done = subprocess.run(
                [sys.executable, "-c", program, Path(directory) / "a.heap"],
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONPATH": str(target)},
            )
            self.assertEqual(done.stdout.strip(), str(target / "pheap/__init__.py"), done.stderr)
