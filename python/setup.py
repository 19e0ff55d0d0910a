# SPDX-License-Identifier: MIT
"""The package is built from the root of the tree."""

import os
import runpy

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
runpy.run_path("setup.py")
