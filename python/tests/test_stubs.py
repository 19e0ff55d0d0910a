# SPDX-License-Identifier: MIT
"""The stubs (*.pyi) say what the package has: names, signatures, types."""

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import pheap

PACKAGE = Path(pheap.__file__).parent
TESTS = Path(__file__).resolve().parent
# What a stub has and the class has not: for type checkers only.
LATER = {"__getattr__"} | ({"__buffer__"} if sys.version_info < (3, 12) else set())
HAVE_MYPY = importlib.util.find_spec("mypy") is not None and "LD_PRELOAD" not in os.environ


def stubbed():
    """The modules that have a stub, by name."""
    for path in sorted(PACKAGE.glob("*.pyi")):
        yield ("pheap" if path.stem == "__init__" else f"pheap.{path.stem}"), path


def names_in(body, within_class=False):
    """The names that statements of a stub define, with those of a class as a dict of their own; None: an attribute of
    instances, which the class need not have."""
    names = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            names[node.name] = names_in(node.body, True)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names[node.name] = {}
        elif isinstance(node, ast.AnnAssign):
            names[node.target.id] = None if within_class else {}
        elif isinstance(node, ast.Assign):
            names.update({target.id: {} for target in node.targets})
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update({alias.asname or alias.name: {} for alias in node.names})
    return names


class Names(unittest.TestCase):
    """Without mypy, too."""

    def test_every_public_module_says_its_types(self):
        # Would catch a new module without a stub or annotations, which a type checker takes for Any.
        stubs = {name for name, _ in stubbed()}
        for path in PACKAGE.glob("[!_]*.py"):
            name = f"pheap.{path.stem}"
            if name in stubs:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    with self.subTest(module=name, function=node.name):
                        self.assertIsNotNone(node.returns, "neither a stub nor annotations")
        self.assertTrue((PACKAGE / "py.typed").exists())

    def test_every_public_name_has_a_stub(self):
        # Would catch a function or method that was added to the package and not to its stub.
        for module_name, path in stubbed():
            module = importlib.import_module(module_name)
            names = names_in(ast.parse(path.read_text()).body)
            said = getattr(module, "__all__", ())
            for name in said or vars(module):
                value = getattr(module, name)
                # Of a private module what programs get from pheap; elsewhere what the module itself defines.
                if module_name.startswith("pheap._"):
                    mine = name in pheap.__all__ and value is getattr(pheap, name)
                else:
                    mine = name in said or getattr(value, "__module__", None) == module_name
                if name.startswith("_") or not mine:
                    continue
                if "*" not in names:
                    self.assertIn(name, names, f"{path.name} lacks {name}")
                if isinstance(value, type) and names.get(name):
                    for member, what in vars(value).items():
                        if not member.startswith("_") and not isinstance(what, (str, int)):
                            self.assertIn(member, names[name], f"{path.name}: {name} lacks {member}")

    def test_everything_in_a_stub_is_there(self):
        # Would catch a name that was removed or renamed.
        for module_name, path in stubbed():
            module = importlib.import_module(module_name)
            for name, members in names_in(ast.parse(path.read_text()).body).items():
                if members or name in getattr(module, "__all__", ()):
                    value = getattr(module, name)
                    for member, inner in members.items():
                        if inner is None or member in LATER:
                            continue
                        self.assertTrue(hasattr(value, member), f"{path.name}: {name}.{member} is not there")


@unittest.skipUnless(HAVE_MYPY, "mypy is missing (Debian: mypy), or the sanitizer is in the interpreter")
class Types(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="pheap-")
        self.addCleanup(directory.cleanup)
        self.work = Path(directory.name)
        config = ["[mypy]", "strict = True", f"cache_dir = {self.work / 'cache'}"]
        stubs = {name for name, _ in stubbed()}
        for path in PACKAGE.glob("_[!_]*.py"):  # private modules have no types, and nobody sees them
            if f"pheap.{path.stem}" not in stubs:
                config += [f"[mypy-pheap.{path.stem}]", "ignore_errors = True"]
        config += ["[mypy-pheap.__main__]", "ignore_errors = True"]
        self.config = self.work / "mypy.ini"
        self.config.write_text("\n".join(config) + "\n")
        self.environment = {**os.environ, "MYPYPATH": str(PACKAGE.parent)}

    def mypy(self, *arguments):
        return subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=self.work,
            env=self.environment,
        )

    def test_stubtest(self):
        # Would catch a signature, a default or a base class that differs from what runs.
        # What only the modules of the package need of each other is no business of a program.
        known = []
        for module_name, path in stubbed():
            if module_name.startswith("pheap._"):
                there = names_in(ast.parse(path.read_text()).body)
                private = [name for name in vars(importlib.import_module(module_name)) if name not in there]
                known += [f"{re.escape(module_name)}\\.{name}(\\..*)?" for name in private]
        # To a type checker it is what an attribute of this type has.
        known += [r"pheap(\._classes)?\.[iuf][0-9]+", r".*\.__(pheap_\w+|match_args)__", r".*\.Pickled\.data"]
        # The fields of a struct are known when it runs.
        known += [r"pheap\.struct\.Struct\.__(get|set)attr__"]
        known += [r".*\.Block\.__buffer__"] * (sys.version_info < (3, 12))
        allowed = self.work / "allowed"
        allowed.write_text("\n".join(known) + "\n")
        done = self.mypy(
            "mypy.stubtest", "pheap", "--mypy-config-file", self.config, "--allowlist", allowed, "--ignore-unused-allowlist"
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_program(self):
        # Would catch stubs that refuse what is right, let through what is wrong, or are Any all over.
        sample = TESTS / "typed_sample.py"
        done = self.mypy("mypy", "--config-file", self.config, "--show-error-codes", sample)
        found = re.findall(r"typed_sample\.py:(\d+): error: .*(\[[a-z-]+\])$", done.stdout, re.M)
        expected = [
            (str(number), match[1])
            for number, line in enumerate(sample.read_text().splitlines(), 1)
            if (match := re.search(r"# error: (\[.*\])", line))
        ]
        self.assertEqual(found, expected, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count("error:"), len(expected), done.stdout)

    def test_the_program_runs(self):
        # Would catch a sample that mypy likes and Python does not.
        done = subprocess.run(
            [sys.executable, TESTS / "typed_sample.py", self.work / "a.heap"], capture_output=True, text=True
        )
        self.assertEqual((done.returncode, done.stdout.splitlines()[-1:]), (0, ["30"]), done.stderr)


if __name__ == "__main__":
    unittest.main()
