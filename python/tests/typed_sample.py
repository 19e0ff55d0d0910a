# SPDX-License-Identifier: MIT
"""A program with types, for test_stubs.py: mypy --strict must find in it what the comments say, and nothing else."""

import sys
from collections.abc import MutableMapping, MutableSequence, MutableSet
from pathlib import Path
from typing import Any

import pheap


def total(ages: MutableMapping[str, int]) -> int:
    return sum(ages.values())


def first(names: MutableSequence[str]) -> str:
    return names[0]


def use(path: Path) -> int:
    with pheap.open(path, "c", durable=False) as heap:
        with heap.transaction(timeout=1.0):
            ages: pheap.Dict[str, int] = pheap.Dict(heap, {"Joe": 27})
            names: pheap.List[str] = pheap.List(heap, ["Joe"])
            seen: pheap.Set[int] = pheap.Set(heap, [1, 2])
            heap.root.update({"ages": ages, "names": names, "seen": seen})
        ages["Ann"] = 31
        names += ["Ann"]
        seen |= {3}
        both: list[str] = names + ["Bob"]
        part: list[str] = names[1:]
        elements: MutableSet[int] = seen
        maybe: int | None = ages.get("Nobody")
        surely: int = ages.get("Nobody", 0)
        popped: int = ages.pop("Ann")
        heap.root["sorted"] = pheap.OrderedMap({"b": 2}, a=1)
        heap.root["queue"] = pheap.Queue([1, 2], maxlen=3)
        sorted_map: pheap.OrderedMap[str, int] = heap.root["sorted"]
        queue: pheap.Queue[int] = heap.root["queue"]
        print(sorted_map.first(), sorted_map.keys()[0].upper(), queue.get(timeout=1.0) + 1)
        with heap.snapshot() as snapshot:
            root: pheap.Dict[Any, Any] = snapshot.root
            version: int = snapshot.version
        try:
            heap.wait(version, timeout=0.0)
        except pheap.Timeout as error:
            status: int = error.status
            number: TimeoutError = error
            print(status, number)
        print(both, part, maybe, surely, popped, root is None, len(elements), ages | {"Bob": 1}, list(reversed(names)))
        faults: list[tuple[int, str]] = heap.check()
        return total(ages) + len(first(names)) + len(faults)


def misuse(heap: pheap.Heap, ages: pheap.Dict[str, int], names: pheap.List[str]) -> None:
    ages["Joe"] = "27"  # error: [assignment]
    ages[27] = 27  # error: [index]
    names.append(27)  # error: [arg-type]
    heap.version = 3  # error: [misc]
    heap.transaction(True)  # error: [misc]
    heap.transactions()  # error: [attr-defined]
    number: int = names[0:1]  # error: [assignment]


if __name__ == "__main__":
    print(use(Path(sys.argv[1])))
