# SPDX-License-Identifier: MIT
"""The package is installed without an index: from the tree, from its sdist, from its wheel, into fresh environments."""

import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import unittest
import zipfile
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]

# A user's first minute, in a process of its own; prints where the package came from.
USE = """
import sys, pheap
with pheap.open(sys.argv[1]) as heap:
    heap.root["ages"] = {"Joe": 27}
    heap.root["ages"]["Joe"] += 1
with pheap.open(sys.argv[1], "r") as heap:
    assert heap.root.plain() == {"ages": {"Joe": 28}}, heap.root
print(pheap.__file__)
"""


def setUpModule():
    for module in ("pip", "wheel", "venv"):
        if importlib.util.find_spec(module) is None:
            raise unittest.SkipTest(f"{module} is missing (Debian: python3-{module})")
    if "LD_PRELOAD" in os.environ:
        raise unittest.SkipTest("what is installed has no sanitizer")
    for header in ("xxhash.h", "zstd.h"):
        if not Path("/usr/include", header).exists() and not Path("/usr/local/include", header).exists():
            raise unittest.SkipTest(f"{header} is missing (Debian: libxxhash-dev libzstd-dev)")


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory(prefix="pheap-")
        cls.addClassCleanup(directory.cleanup)
        cls.work = Path(directory.name)
        # What this run of the tests has set is not what a user has.  Not optimised, since it is compiled several times.
        cls.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PHEAP_", "PYTHON", "PIP_")) and name != "VIRTUAL_ENV"
        }
        cls.environment.update(CFLAGS="-O0", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")

    def run_command(self, *command, cwd=TREE, **environment):
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            cwd=cwd,
            env={**self.environment, **environment},
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def venv(self, name, *options):
        """An environment of its own; its interpreter."""
        self.run_command(sys.executable, "-m", "venv", "--without-pip", *options, self.work / name)
        return self.work / name / "bin/python"

    def pip(self, python, *arguments, **environment):
        self.run_command(
            sys.executable, "-m", "pip", "--python", python, *arguments, cwd=self.work, **environment
        )

    def use(self, python, **environment):
        """The installed package works, and is not that of the tree."""
        heap = self.work / f"{python.parent.parent.name}.heap"
        came_from = Path(self.run_command(python, "-c", USE, heap, cwd=self.work, **environment).strip())
        self.assertTrue(came_from.is_relative_to(python.parent.parent), came_from)
        return came_from.parent

    def exported(self, library):
        lines = self.run_command("nm", "-D", "--defined-only", library).splitlines()
        return [line.split()[-1] for line in lines]

    def test_from_the_tree(self):
        # Would catch a source that the list of the extension lacks, and a dependency that only an index has.
        python = self.venv("tree", "--system-site-packages")
        self.pip(python, "install", "--no-index", "--no-build-isolation", TREE)
        package = self.use(python)
        # Would catch a clash with the symbols of another copy of the library in the process.
        self.assertEqual(self.exported(package / "_pheap.abi3.so"), ["PyInit__pheap"])

    def test_from_the_sdist_and_its_wheel(self):
        # Would catch a file that MANIFEST.in lacks: what is built here comes from the archive alone.
        self.run_command(sys.executable, "setup.py", "-q", "sdist", "--dist-dir", self.work)
        (sdist,) = self.work.glob("pheap-*.tar.gz")
        with tarfile.open(sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        self.assertLessEqual({"LICENSE", "README.md", "pheap/pheap.h", "io/posix.c", "python/tests/run"}, names)
        self.assertFalse([name for name in names if name.endswith((".so", ".pyc", ".o"))])
        builder = self.venv("builder", "--system-site-packages")
        self.pip(builder, "wheel", "-q", "--no-index", "--no-build-isolation", "-w", self.work, sdist)
        (wheel,) = self.work.glob("*.whl")
        # Would catch a wheel that only this version of the interpreter takes.
        self.assertRegex(wheel.name, r"^pheap-[0-9.]+-cp311-abi3-linux_\w+\.whl$")
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
        for name in ("pheap/py.typed", "pheap/_pheap.pyi", "pheap/__main__.py"):
            self.assertIn(name, names)
        self.assertFalse([name for name in names if not name.startswith(("pheap/", "pheap-"))])
        # In an environment that has nothing else.
        python = self.venv("wheel")
        self.pip(python, "install", "--no-index", wheel)
        self.use(python)
        metadata = self.run_command(
            python, "-c", "import importlib.metadata as m; d = m.metadata('pheap'); print(d['Version'], d['License'])"
        )
        self.assertEqual(metadata.split(), [wheel.name.split("-")[1], "MIT"])

    def test_on_a_library_that_was_built(self):
        # Would catch PHEAP_BUILD being overlooked, and an installation from python/ that does not find the tree.
        if "PHEAP_BUILD" not in os.environ:
            self.skipTest("PHEAP_BUILD does not say where libpheap.a is")
        python = self.venv("built", "--system-site-packages")
        options = ["install", "--no-index", "--no-build-isolation"]
        with self.assertRaisesRegex(AssertionError, "libpheap.a is missing: build it with cmake"):
            self.pip(python, *options, TREE / "python", PHEAP_BUILD=str(self.work))
        self.pip(python, *options, TREE / "python", PHEAP_BUILD=os.environ["PHEAP_BUILD"])
        package = self.use(python)
        self.assertEqual(self.exported(package / "_pheap.abi3.so"), ["PyInit__pheap"])

    def test_on_the_installed_library(self):
        # Would catch an extension that brings its own copy although the installed one was asked for.
        build = os.environ.get("PHEAP_BUILD")
        if build is None or not Path(build, "cmake_install.cmake").exists() or not Path(build, "libpheap.so").exists():
            self.skipTest("PHEAP_BUILD does not name a build that can be installed")
        python = self.venv("system", "--system-site-packages")
        options = ["install", "--no-index", "--no-build-isolation", TREE]
        with self.assertRaisesRegex(AssertionError, "pkg-config does not know pheap"):
            self.pip(python, *options, PHEAP_SYSTEM="1", PKG_CONFIG_LIBDIR=str(self.work))
        prefix = self.work / "prefix"
        self.run_command("cmake", "--install", build, "--prefix", prefix)
        (found,) = prefix.rglob("pheap.pc")
        self.pip(python, *options, PHEAP_SYSTEM="1", PKG_CONFIG_PATH=str(found.parent))
        package = self.use(python, LD_LIBRARY_PATH=str(found.parent.parent))
        needed = self.run_command("readelf", "-d", package / "_pheap.abi3.so")
        self.assertIn("libpheap.so.0", needed)

    def test_without_the_limited_api(self):
        # Would catch what a free-threaded interpreter, which has no limited API, could not compile.
        include = self.run_command(
            sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('include'))"
        ).strip()
        sources = sorted(str(source) for source in Path(TREE, "python/src").glob("*.c"))
        self.run_command("cc", "-std=c17", "-fsyntax-only", "-Werror", f"-I{include}", "-I.", *sources)


if __name__ == "__main__":
    unittest.main()
