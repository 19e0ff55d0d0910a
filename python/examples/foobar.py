# SPDX-License-Identifier: MIT
"""Blocks: an element of a tree has the offset of its text; the text gets longer.

python3 foobar.py HEAP
"""

import struct
import sys

import pheap

ELEMENT = struct.Struct("<QQ")  # offset of the text, length of the text


def show(heap):
    offset, length = ELEMENT.unpack_from(heap.root["element"])
    text = heap.root["text"]
    assert (offset, length) == (text.offset, len(text))
    print(f"at {offset:#x}: {bytes(text).decode()}")


def main(path):
    with pheap.open(path) as heap:
        with heap.transaction():
            heap.root["element"] = heap.alloc(ELEMENT.size)
            heap.root["text"] = heap.alloc(3)
            heap.root["text"][:] = b"Foo"
            ELEMENT.pack_into(heap.root["element"], 0, heap.root["text"].offset, 3)
        show(heap)
        before = heap.info()["committed_lsn"]
        with heap.transaction():
            text = heap.root["text"] = heap.realloc(heap.root["text"], 600)
            text[:] = b"Foobar" * 100
            ELEMENT.pack_into(heap.root["element"], 0, text.offset, len(text))
        show(heap)
        print(f"that took {heap.info()['committed_lsn'] - before} bytes of log, however large the heap is")
        with heap.snapshot() as snapshot:  # a view without a copy
            with memoryview(snapshot.root["text"]) as view:
                print(f"{view.nbytes} bytes, of which the last are {bytes(view[-3:])}")


if __name__ == "__main__":
    main(sys.argv[1])
