# SPDX-License-Identifier: MIT
"""A class for ZODB, which finds it by the name of its module."""

from persistent import Persistent


class PersistentThing(Persistent):
    def __init__(self):
        self.x, self.y = 1, 1.5
