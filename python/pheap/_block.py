# SPDX-License-Identifier: MIT
"""Block: raw bytes in a heap."""

import io

from . import _pheap


class Block(_pheap.Block):
    """Raw bytes in a heap: made by Heap.alloc(), and stored in a container like any value.

    Its bytes are read and changed by indexing and slicing, or where they are, without a copy, by everything that takes a
    buffer: memoryview(), struct.pack_into(), ctypes' from_buffer(), numpy.frombuffer().

    Outside of a transaction, and from a snapshot, such a view is read-only and shows one version, which it pins until it is
    released.  In a transaction it is writable, and stays good for all later transactions of the process, whichever thread
    has them; what is read through it in between is no snapshot, and a store in between is undone: the next transaction, or
    close(), raises StrayStore, which says where the view was made.  While there are views of a block its heap cannot be
    closed, and the block neither be freed nor moved: BufferError.  Growth of the heap never moves it.
    """

    __slots__ = ()
    __hash__ = None

    def plain(self):
        """A copy of its bytes."""
        return bytes(self)

    def numpy(self, dtype="u1", count=-1, offset=0):
        """Its bytes, in place, as a numpy array."""
        return numpy().frombuffer(self, dtype, count, offset)

    def file(self, offset=0):
        """A file on its bytes, from `offset` on, for pickle.dump() and the like.  It does not get longer than the block."""
        return BlockFile(self, offset)

    def __repr__(self):
        try:
            return f"<pheap.Block of {len(self)} bytes at {self.offset:#x}>"
        except ReferenceError:
            return "<pheap.Block that is gone>"

    def __reduce_ex__(self, protocol):
        return bytes, (bytes(self),)


class BlockFile(io.RawIOBase):
    """A file on the bytes of a block.  A write is a change like others: of the open transaction, or one of its own."""

    def __init__(self, block, offset):
        self._block = block
        self.seek(offset)

    def readable(self):
        return True

    def writable(self):
        return self._block._writable

    def seekable(self):
        return True

    def tell(self):
        return self._at

    def seek(self, offset, whence=io.SEEK_SET):
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: getattr(self, "_at", 0), io.SEEK_END: len(self._block)}[whence]
        if at < 0:
            raise ValueError("a negative place in a block")
        self._at = at
        return at

    def readinto(self, buffer):
        data = self._block[self._at : self._at + len(memoryview(buffer).cast("B"))]
        memoryview(buffer).cast("B")[: len(data)] = data
        self._at += len(data)
        return len(data)

    def write(self, data):
        with memoryview(data) as view:
            size = view.nbytes
            if size > len(self._block) - self._at:
                raise ValueError(f"{size} bytes at {self._at} do not fit in a block of {len(self._block)}")
            self._block[self._at : self._at + size] = view
        self._at += size
        return size


def numpy():
    """The module, which is imported when somebody asks for arrays."""
    try:
        import numpy
    except ImportError as error:
        raise ImportError("arrays need numpy, which is not installed (Debian: python3-numpy)") from error
    return numpy
