# SPDX-License-Identifier: MIT
"""Structs by key: what sensors read, kept in rings, and the sum of it, changed in the same transaction.

python3 sensors.py HEAP
"""

import ctypes
import sys

import pheap
from pheap.struct import RingOf, Store


class Reading(ctypes.Structure):
    _fields_ = [("time", ctypes.c_uint64), ("value", ctypes.c_double)]


class Total(ctypes.Structure):
    _fields_ = [("count", ctypes.c_uint64), ("sum", ctypes.c_double), ("name", ctypes.c_char * 16)]


def record(store, heap, name, time, value):
    with heap.transaction():  # all of it or nothing
        if ("total", name) not in store:
            store.new(("total", name), Total).name = name.encode()
            store.new(("last", name), RingOf(Reading, 3))
        store["last", name].push((time, value))
        total = store["total", name]
        total.count += 1
        total.sum += value


def main(path):
    with pheap.open(path, durable=False) as heap:
        store = Store(heap, "sensors")
        for time in range(5):
            record(store, heap, "roof", time, 20.5 + time)
            record(store, heap, "cellar", time, 12.0)
        for key in store:
            print(key, store[key])
        store.new("map", (ctypes.c_float * 1000) * 1000)  # takes no disk until it is written
        store["map"][500][500] = 1.5
        print(len(store["map"]), store["map"][500][499:502])
        del store["map"]


if __name__ == "__main__":
    main(sys.argv[1])
