# SPDX-License-Identifier: MIT
"""A class of pheap, where there are such."""

import pheap


class PheapThing(pheap.Persistent):
    x: int
    y: float
