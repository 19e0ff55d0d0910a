# SPDX-License-Identifier: MIT
"""For programs that were written for two older systems.

1. The persistent object graph of 2004: a root dict, classes derived from PersistentBase, and locks on objects.

    heap = compat.open("site.heap")
    root = heap.root
    root.lockExcl()
    root["visitors"] = root.get("visitors", 0) + 1
    root.unlock()

  With this module imported, every object of every heap has lockExcl(), lockShared() and unlock().  They are
  Heap.lock(name=the object): of one thread until it unlocks, and released by the kernel if its process dies.  Only who
  locks is kept out.

2. structchunk, the store of ctypes structures in sparse files with an index in LevelDB.

    Point = compat.Object.of(x=c_int, y=c_double)
    db = compat.DB.create("points", 2**30)      # DB("points") opens it again
    grid = db.new(compat.Array.of(256, compat.Array.of(256, Point)))
    grid[3][4].x = 5
    db.put("grid", grid)
    db.get("grid", compat.Array.of(256, compat.Array.of(256, Point)))[3][4].x

  What is got are the places of pheap.struct.  Beyond the old one: the index is part of the heap and changes with the
  data; delete() gives the space back; a wrong type is refused; many processes may change it; and db.transaction() makes
  many stores one.  A Ring has as many items as were appended, until it is full.
"""

import ctypes
import os
from _thread import _local

from . import _errors, _pheap
from . import open as _open
from . import struct as _struct
from ._classes import Persistent

__all__ = ["open", "PersistentBase", "DB", "Object", "Array", "Ring"]

# ------------------------------------------------------------------------------------------- objects that are locked

_mine = _local()  # of a thread: a dict (heap, word of an object): its lock, which has the object, so that it stays what it is


def open(path, **options):
    """The heap in the file `path`, which is made if it is not there.  What is stored survives the process at once."""
    return _open(path, "c", **{"durable": False, **options})


def _place(obj):
    if obj._heap is None:
        raise RuntimeError("an object is locked in a heap: store it first")
    if not hasattr(_mine, "locks"):
        _mine.locks = {}
    return obj._heap._file, obj._word


def _take(obj, shared, timeout):
    place = _place(obj)
    lock = obj._heap.lock(shared=shared, timeout=timeout, name=obj)
    lock.acquire()
    _mine.locks[place] = lock


def _lock_exclusive(self, timeout=None):
    """Lock this object for this thread alone; wait for others, at most for `timeout` seconds: then pheap.Timeout."""
    _take(self, False, timeout)


def _lock_shared(self, timeout=None):
    """Lock this object, as others may at the same time, unless one has it alone."""
    _take(self, True, timeout)


def _unlock(self):
    """Let go of the lock on this object.  RuntimeError if this thread does not have it."""
    place = _place(self)
    lock = _mine.locks.pop(place, None)
    if lock is None:
        raise RuntimeError("this thread has not locked the object")
    lock.release()


for _name, _function in ("lockExcl", _lock_exclusive), ("lockShared", _lock_shared), ("unlock", _unlock):
    _function.__name__ = _function.__qualname__ = _name
    setattr(_pheap.Proxy, _name, _function)


class PersistentBase(Persistent):
    """The base of classes whose objects are stored: pheap.Persistent under its older name."""


# ------------------------------------------------------------------------------------------------ structs in a store


class Object(ctypes.Structure):
    """A struct with the head that structchunk had.  Object.of(x=c_int, ...) is one with more fields."""

    _fields_ = [
        ("used", ctypes.c_uint64, 1),  # 1 once it was put
        ("version", ctypes.c_uint64, 15),
        ("flags", ctypes.c_uint64, 48),
        ("size", ctypes.c_long),
    ]

    @classmethod
    def of(cls, *items, **more):
        """A type with these fields: pairs of name and type of ctypes, or keywords."""
        fields = [*items, *more.items()]
        # The heap knows types by their names, and these are made without one.
        name = cls.__name__ + "".join(f" {field}:{_name_of(kind)}" for field, kind, *_ in fields)
        return type(cls.__name__, (cls,), {"_fields_": fields, "_pheap_name_": _short(name)})


def _name_of(kind):
    return getattr(kind, "_pheap_name_", kind.__name__).replace(" ", ",")


def _short(name, most=200):
    if len(name) <= most:
        return name
    from hashlib import blake2b

    return name[: most - 33] + " " + blake2b(name.encode(), digest_size=16).hexdigest()


class Array:
    """Array.of(n, item), or Array.of(item, n): the type of n items, each a type of ctypes, an Object or an Array."""

    @staticmethod
    def of(size, item):
        """The type."""
        return item * size


class Ring:
    """Ring.of(n, item), or Ring.of(item, n): the type of a ring of the last n items."""

    @staticmethod
    def of(size, item):
        """The type."""
        return _struct.RingOf(size, item) if isinstance(item, int) else _struct.RingOf(item, size)


class DB:
    """A store of structs in a directory.  DB.create(path) makes one, DB(path) opens it."""

    def __init__(self, path, chunk_size=None, *, _flag="w", **options):
        self.path = path
        self.heap = _open(os.path.join(path, "structs.heap"), _flag, **{"durable": False, **options})
        self._store = _struct.Store(self.heap, "structs")
        self._new = _struct.Store(self.heap, "new structs")  # those that have no key yet
        self._mine = set()

    @classmethod
    def create(cls, path, chunk_size=None, **options):
        """Make one in the directory `path`; pheap.Exists if it has one.  It grows as it must, whatever chunk_size says."""
        os.makedirs(path, exist_ok=True)
        if os.path.exists(os.path.join(path, "structs.heap")):
            raise _errors.Exists(f"{path}: there is a store: open it with DB({path!r})")
        return cls(path, chunk_size, _flag="c", **options)

    def transaction(self, **options):
        """with db.transaction(): all stores to fields, put() and delete() in its block are one change."""
        return self.heap.transaction(**options)

    def new(self, cls, sync=False):
        """A new struct, array or ring, all zeros.  put() gives it a key; what has none is gone after close()."""
        key = os.urandom(16)
        with self.heap.transaction(durable=sync):
            place = self._new.new(key, cls)
        self._mine.add(key)
        return place

    def put(self, key, obj, sync=True):
        """Store it under a key, or under a further one.  With sync it is on stable storage then."""
        with self.heap.transaction(durable=sync):
            if isinstance(obj, _struct.Struct) and "used" in obj._names_:
                obj.used, obj.size = 1, len(bytes(obj))
            root = self.heap.root
            root.setdefault("structs", {})[key] = obj._block
            for temporary in self._keys(self._new, obj._block):
                del root["new structs"][temporary]
                self._mine.discard(temporary)

    def get(self, key, cls=None, default=None):
        """What has this key.  pheap.WrongType if it is not of this type."""
        return self._store.get(key, cls, default)

    def delete(self, what, sync=True):
        """Remove a key, or something with all its keys.  Its space is used again."""
        with self.heap.transaction(durable=sync):
            if isinstance(what, _pheap.Place):
                if isinstance(what, _struct.Struct) and "used" in what._names_:
                    what.used = 0
                for store in (self._store, self._new):
                    for key in self._keys(store, what._block):
                        del store[key]
            else:
                del self._store[what]

    def keys(self):
        """The keys."""
        return list(self._store)

    def flush(self):
        """Make everything durable."""
        self.heap.sync()

    def close(self):
        """Close it."""
        with self.heap.transaction():
            for key in self._mine:
                if key in self._new:
                    del self._new[key]
        self.heap.close()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.close()

    @staticmethod
    def _keys(store, block):
        return [key for key in store if _pheap.get_struct(store._index(), key) is block]
