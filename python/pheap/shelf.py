# SPDX-License-Identifier: MIT
"""shelve on a heap: change `import shelve` to `from pheap import shelf as shelve`.

    with shelf.open("notes") as s:
        s["ages"] = {"Joe": 27}
        s["ages"]["Joe"] += 1       # is kept: no read, change, assign

It is the module of the standard library, with these differences.

- Values are live.  What a heap can hold (None, bool, int, float, str, bytes, list, dict, set, tuple, and what pheap.open()
  besides tells of) is stored as it is, and s[key] is the stored object, a pheap.List for a list; to change it is to
  change the shelf.  All else is pickled, and comes back as a copy, as with shelve.  With live=False, and with
  writeback=True, everything is a copy; plain() makes one of a live value.
- Any number of processes may have a shelf open, and change it.
- What was stored survives the process at once, and a power cut after sync(), close(), or with durable=True.
- open() makes a heap; other files of dbm are refused.  A key is an entry of the heap's root: of the same name if its
  value is live, of the encoded name if it is pickled.

Shelf and BsdDbShelf are those of the standard library, for mappings of your own.
"""

from collections.abc import MutableMapping
from io import BytesIO
from pickle import Pickler, Unpickler
from shelve import BsdDbShelf, Shelf

from . import open as _open
from . import plain
from ._pheap import Proxy

__all__ = ["Shelf", "BsdDbShelf", "DbfilenameShelf", "open"]

_UNSTORABLE = TypeError, UnicodeEncodeError  # what a heap says of a value that it has no kind for


class _Pickles(MutableMapping):
    """The root of a heap as a mapping of bytes to pickles, which is what a Shelf is made upon."""

    def __init__(self, heap, readonly, protocol, encoding):
        self.heap = heap
        self.readonly = readonly
        self.protocol = protocol
        self.encoding = encoding

    def __getitem__(self, key):
        value, live = self.find(key.decode(self.encoding), key)
        return self.pickle(plain(value)) if live else value

    def __setitem__(self, key, value):
        self.put(key.decode(self.encoding), key, False, value)

    def __delitem__(self, key):
        self.remove(key.decode(self.encoding), key)

    def __contains__(self, key):
        root = self.heap.root
        return key in root or key.decode(self.encoding) in root

    def __iter__(self):
        return iter(self.keys())

    def __len__(self):
        return len(self.heap.root)

    def keys(self):
        """A list, as dbm has: entries may be removed while one walks through it."""
        return [key.encode(self.encoding) if isinstance(key, str) else key for key in self.heap.root]

    def sync(self):
        if not self.readonly:
            self.heap.sync()

    def close(self):
        self.heap.close()

    def pickle(self, value):
        file = BytesIO()
        Pickler(file, self.protocol).dump(value)
        return file.getvalue()

    def find(self, name, key):
        """(value, is it live?)"""
        root = self.heap.root
        for _ in range(2):  # another process may put one form in the place of the other between two looks
            try:
                return root[name], True
            except KeyError:
                pass
            try:
                return root[key], False
            except KeyError:
                pass
        raise KeyError(key)

    def put(self, name, key, live, value):
        root = self.heap.root
        with self.heap.transaction():
            root[name if live else key] = value
            root.pop(key if live else name, None)

    def remove(self, name, key):
        root = self.heap.root
        with self.heap.transaction():
            if name in root:
                del root[name]
            else:
                del root[key]


class DbfilenameShelf(Shelf):
    """The shelf in the heap `filename`; the options are those of pheap.open()."""

    def __init__(self, filename, flag="c", protocol=None, writeback=False, *, live=None, durable=False, **options):
        if live and writeback:
            raise ValueError("a live shelf has nothing to write back: leave one of live and writeback out")
        if not isinstance(flag, str) or flag[:1] not in tuple("rwcn") or set(flag[1:]) - set("fsu"):
            raise ValueError('flag must be "r", "w", "c" or "n"')
        heap = _open(filename, flag[0], durable=durable or "s" in flag[1:], **options)
        Shelf.__init__(self, None, protocol, writeback)
        self.dict = self._pickles = _Pickles(heap, flag[0] == "r", self._protocol, self.keyencoding)
        self.live = not writeback if live is None else bool(live)

    @property
    def heap(self):
        """The heap, for transactions, snapshots and locks: with s.heap.transaction(): ..."""
        return self._pickles.heap

    def __getitem__(self, key):
        if not self.live:
            return Shelf.__getitem__(self, key)
        value, live = self._pickles.find(key, key.encode(self.keyencoding))
        return value if live else Unpickler(BytesIO(value)).load()

    def __setitem__(self, key, value):
        if not self.live:
            Shelf.__setitem__(self, key, value)
            return
        encoded = key.encode(self.keyencoding)
        if isinstance(value, Proxy):
            if self._is_at(key, value):
                return  # s[key] = s[key], after a change
            value = plain(value)
        try:
            self._pickles.put(key, encoded, True, value)
        except _UNSTORABLE:
            self._pickles.put(key, encoded, False, self._pickles.pickle(value))

    def _is_at(self, key, value):
        return self.heap.root.get(key) is value

    def setdefault(self, key, default=None):
        """s[key], which is made the default if there is none."""
        with self.heap.transaction():
            if key not in self:
                self[key] = default
            return self[key]

    def pop(self, key, *default):
        """Remove the key and return its value: as a copy, for it is in the shelf no longer."""
        if len(default) > 1:
            raise TypeError(f"pop expected at most 2 arguments, got {1 + len(default)}")
        with self.heap.transaction():
            try:
                value = plain(self[key])
            except KeyError:
                if not default:
                    raise
                return default[0]
            del self[key]
        return value

    def popitem(self):
        """Remove a key and return it with its value, as pop() does."""
        with self.heap.transaction():
            for key in self:
                return key, self.pop(key)
        raise KeyError("the shelf is empty")


def open(filename, flag="c", protocol=None, writeback=False, **options):
    """Open the shelf in the file `filename`; as shelve.open(), and options as DbfilenameShelf() takes them."""
    return DbfilenameShelf(filename, flag, protocol, writeback, **options)
