# SPDX-License-Identifier: MIT
"""Build pheap._pheap; pyproject.toml has what is said about the package.

The extension is one shared object.  types/ is always compiled in.  The library is

    compiled in, too, from io/ wal/ recovery/ pheap/, with the flags of its release build: needs libxxhash and libzstd
    with PHEAP_BUILD=DIRECTORY   the libpheap.a of that CMake build
    with PHEAP_SYSTEM=1          the installed libpheap that pkg-config finds, of the same version

PHEAP_CFLAGS are flags for all that is compiled, and for the linker; they come last.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

here = Path(__file__).resolve().parent
os.chdir(here)  # names of sources are relative

# A free-threaded interpreter has no limited API: there the wheel is for that one version.
free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

LAYERS = ["io", "wal", "recovery", "pheap"]
MORE_FLAGS = os.environ.get("PHEAP_CFLAGS", "").split()
# What needs more than ISO C, as in CMakeLists.txt.
SYSTEM_CALLS = ["io/posix.c", "io/posix_pages.c", "io/mutex.c"]


def files(directories, pattern):
    return sorted(name for directory in directories for name in glob(f"{directory}/{pattern}"))


def version():
    """The version is written in one place, the public header."""
    found = re.findall(r"^#define PHEAP_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", Path("pheap/pheap.h").read_text(), re.M)
    return ".".join(found)


def library():
    """Arguments of Extension() for libpheap, and the sources of it that are to be compiled."""
    build = os.environ.get("PHEAP_BUILD")
    if build:
        archive = Path(build).resolve() / "libpheap.a"
        if not archive.exists():
            sys.exit(f"pheap: {archive} is missing: build it with cmake, or unset PHEAP_BUILD")
        return {"extra_objects": [str(archive)], "libraries": ["xxhash", "zstd"]}, []
    if os.environ.get("PHEAP_SYSTEM", "0") not in ("", "0"):
        return installed_library(), []
    return {"libraries": ["xxhash", "zstd"]}, files(LAYERS, "*.c")


def installed_library():
    def ask(*options):
        return subprocess.run(["pkg-config", *options, "pheap"], capture_output=True, text=True, check=True).stdout

    try:
        found = ask("--modversion").strip()
        flags = ask("--libs").split()
    except (OSError, subprocess.CalledProcessError):
        sys.exit("pheap: PHEAP_SYSTEM is set, but pkg-config does not know pheap: install the library, or unset it")
    if found != version():
        sys.exit(f"pheap: the installed libpheap is {found}, this is {version()}: install that, or unset PHEAP_SYSTEM")
    return {"extra_link_args": flags}


class Build(build):
    """Starts with nothing: what an earlier build has left may be of other files, flags or another library."""

    def run(self):
        shutil.rmtree(Path(self.build_lib, "pheap"), ignore_errors=True)
        super().run()


class BuildExtension(build_ext):
    """Compiles the sources side by side: they are many, and small."""

    def build_extensions(self):
        compile = self.compiler.compile

        def compile_all(sources, extra_postargs=None, **options):
            def compile_one(source):
                flags = list(extra_postargs or [])
                if source in SYSTEM_CALLS:
                    flags.append("-D_GNU_SOURCE")
                return compile([source], extra_postargs=flags, **options)

            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                return [made for objects in pool.map(compile_one, sources) for made in objects]

        self.compiler.compile = compile_all
        super().build_extensions()


arguments, sources = library()
arguments["extra_link_args"] = [
    "-Wl,--version-script=python/src/exports.map",
    "-Wl,-z,relro,-z,now",
    *MORE_FLAGS,
    *arguments.get("extra_link_args", []),
]

setup(
    version=version(),
    cmdclass={"build": Build, "build_ext": BuildExtension},
    ext_modules=[
        Extension(
            "pheap._pheap",
            files(["python/src", "types"], "*.c") + sources,
            depends=files(["python/src", "types", *LAYERS], "*.h") + ["python/src/exports.map"],
            include_dirs=["."],
            define_macros=[] if free_threaded else [("Py_LIMITED_API", "0x030b0000")],
            py_limited_api=not free_threaded,
            extra_compile_args=["-std=c17", "-fvisibility=hidden", *MORE_FLAGS],
            **arguments,
        )
    ],
    # CMake's builds are in build/, too.
    options={"build": {"build_base": "build/python"}, "bdist_wheel": {} if free_threaded else {"py_limited_api": "cp311"}},
)
