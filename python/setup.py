# SPDX-License-Identifier: MIT
"""Build pheap._pheap.

It compiles ../types in, and links libpheap: from the CMake build that the environment variable PHEAP_BUILD names, else
from ../build/release if that is there, else the one that is installed and that pkg-config finds.
"""

import os
import subprocess
import sys
from glob import glob
from pathlib import Path

from setuptools import Extension, setup

here = Path(__file__).resolve().parent
os.chdir(here)  # names of sources are relative


def library():
    """Arguments of Extension() for libpheap."""
    build = os.environ.get("PHEAP_BUILD")
    if build is None and (here.parent / "build/release/libpheap.a").exists():
        build = here.parent / "build/release"
    if build is not None:
        archive = Path(build).resolve() / "libpheap.a"
        if not archive.exists():
            sys.exit(f"pheap: {archive} is missing: build it with cmake, or unset PHEAP_BUILD")
        return {"extra_objects": [str(archive)], "libraries": ["xxhash", "zstd"]}
    try:
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "pheap"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        sys.exit("pheap: libpheap is neither in ../build/release (cmake --preset release) nor known to pkg-config")
    flags = flags.stdout.split()
    return {
        "extra_compile_args": [flag for flag in flags if flag.startswith("-I")],
        "extra_link_args": [flag for flag in flags if not flag.startswith("-I")],
    }


arguments = library()
arguments["extra_compile_args"] = [
    "-std=c17",
    "-fvisibility=hidden",
    *os.environ.get("PHEAP_CFLAGS", "").split(),
    *arguments.get("extra_compile_args", []),
]

setup(
    ext_modules=[
        Extension(
            "pheap._pheap",
            sorted(glob("src/*.c") + glob("../types/*.c")),
            depends=sorted(glob("src/*.h") + glob("../types/*.h") + ["../pheap/pheap.h"]),
            include_dirs=[".."],
            define_macros=[("Py_LIMITED_API", "0x030b0000")],
            py_limited_api=True,
            **arguments,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
