# SPDX-License-Identifier: MIT
"""The access pattern of a keyed struct store (row S10 of docs/promises.md): 256 x 256 ints, doubles and objects, read and
written one by one, in order and at random.  Prints medians in ns per element, of places in a heap beside ctypes in plain memory.

    PYTHONPATH=... python3 bench/python/struct_store.py [ROUNDS [DIRECTORY]]

In a heap: `place` writes in one transaction, `lone` with a transaction for each, `mapped` through ctypes in place, `slice` a row
at a time, `numpy` a whole array at once.
"""

import ctypes
import random
import statistics
import sys
import tempfile
import time

import pheap
from pheap.struct import Store

SIDE = 256


class Object(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("value", ctypes.c_double), ("name", ctypes.c_char * 16)]


def read(matrix, order):
    for i, j in order:
        matrix[i][j]


def read_field(matrix, order):
    for i, j in order:
        matrix[i][j].number


def write(matrix, order):
    for i, j in order:
        matrix[i][j] = i


def write_field(matrix, order):
    for i, j in order:
        matrix[i][j].number = i


def read_rows(matrix):
    for row in matrix:
        row[:]


def write_rows(matrix):
    values = list(range(SIDE))
    for row in matrix:
        row[:] = values


def measure(rounds, elements, work, *args):
    """The median of `rounds`, in ns per element."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter_ns()
        work(*args)
        times.append((time.perf_counter_ns() - begin) / elements)
    return statistics.median(times)


def in_transaction(heap, work, *args):
    with heap.transaction():
        work(*args)


def measure_type(heap, ctype, rounds, orders):
    """Rows of (what, order, ns)."""
    store = Store(heap, "bench")
    place = store.new(ctype.__name__, (ctype * SIDE) * SIDE)
    plain = ((ctype * SIDE) * SIDE)()
    is_struct = ctype is Object
    reading, writing = (read_field, write_field) if is_struct else (read, write)
    for name, order in orders.items():
        count = len(order)
        yield "ctypes, plain memory: read", name, measure(rounds, count, reading, plain, order)
        yield "ctypes, plain memory: write", name, measure(rounds, count, writing, plain, order)
        yield "place: read", name, measure(rounds, count, reading, place, order)
        with heap.snapshot() as snapshot:
            old = Store(snapshot, "bench").get(ctype.__name__, (ctype * SIDE) * SIDE)
            yield "place of a snapshot: read", name, measure(rounds, count, reading, old, order)
            del old
        yield "place: write", name, measure(rounds, count, in_transaction, heap, writing, place, order)
        yield "lone: write", name, measure(rounds, count // 16, writing, place, order[: count // 16])
        with heap.transaction():
            mapped = place.map()
        yield "mapped: read", name, measure(rounds, count, in_transaction, heap, reading, mapped, order)
        yield "mapped: write", name, measure(rounds, count, in_transaction, heap, writing, mapped, order)
        del mapped
    if not is_struct:
        yield "slice: read", "rows", measure(rounds, SIDE * SIDE, read_rows, place)
        yield "slice: write", "rows", measure(rounds, SIDE * SIDE, in_transaction, heap, write_rows, place)
    try:
        yield "numpy: sum", "whole", measure(rounds, SIDE * SIDE, lambda: (place.numpy()["number"] if is_struct else place.numpy()).sum())
    except ImportError:
        pass  # numpy is not installed


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    sequential = [(i, j) for i in range(SIDE) for j in range(SIDE)]
    shuffled = sequential.copy()
    random.Random(1).shuffle(shuffled)
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as directory:
        with pheap.open(directory + "/bench.heap", durable=False) as heap:
            for ctype in ctypes.c_int, ctypes.c_double, Object:
                rows = measure_type(heap, ctype, rounds, {"in order": sequential, "random": shuffled})
                for what, order, ns in rows:
                    print(f"{ctype.__name__:9} {what:28} {order:9} {ns:9.1f} ns", flush=True)


if __name__ == "__main__":
    main()
