# SPDX-License-Identifier: MIT
"""What a heap does among threads and processes: its locks, pickles of it, and its end with the process."""

import _weakref  # weakref itself takes half a millisecond to import
import atexit
import os
import sys
from _thread import allocate_lock

from ._errors import Error, StrayStore
from ._pheap import Heap

_heaps = {}  # weak references to open heaps: (absolute path, flag, options, device and inode)
_unpickled = {}  # (absolute path, flag): heaps that came out of pickles, until they are closed or the process ends
_importing = allocate_lock()  # held while _lock is imported, and while the process forks
_locks = None  # that module, while the process forks
_worker = False  # is close_all() done at the end of a worker of multiprocessing?


def remember(heap, flag, options):
    """Note how a heap was opened."""
    path = os.path.abspath(heap.path)
    status = os.stat(path)
    _heaps[_weakref.ref(heap, _forget)] = path, "r" if flag == "r" else "w", options, (status.st_dev, status.st_ino)
    if not _worker and "multiprocessing.util" in sys.modules:
        _close_with_worker()


def _forget(dead):
    _heaps.pop(dead, None)


def _file(heap):
    return _heaps[_weakref.ref(heap)][0]


def _reduce(heap, protocol):
    return _reopen, _heaps[_weakref.ref(heap)][:3]


def _reopen(path, flag, options):
    """The heap of a pickle: one that is open here; else one for all pickles, so that a worker does not open it each time."""
    for known, (its_path, its_flag, *_) in _heaps.copy().items():
        heap = known()
        if its_path == path and its_flag == flag and heap is not None and not heap.closed:
            return heap
    from . import open

    heap = _unpickled[path, flag] = open(path, flag, **options)
    return heap


def _lock(heap, shared=False, timeout=None, name=None):
    """lock(shared=False, timeout=None, name=None)

    A lock to be held in a with block, over any number of transactions: by one thread of one process alone, or shared.
    timeout: seconds to wait for it, then pheap.Timeout.  name: a str, bytes, or an object of the heap; there is a lock for each.
    The kernel releases it when its process dies.  Nothing else respects it: transactions do not wait for locks.
    """
    with _importing:
        from ._lock import Lock
    return Lock(heap, shared, timeout, name)


Heap.__reduce_ex__ = _reduce
Heap.lock = _lock
Heap.durable = property(lambda heap: _heaps[_weakref.ref(heap)][2]["durable"], doc="Is a transaction that does not say durable?")
Heap._file = property(_file, doc="The absolute path.")
Heap._inode = property(lambda heap: _heaps[_weakref.ref(heap)][3], doc="Device and inode of its file.")


@atexit.register
def close_all():
    """Close what is open, so that the next who opens it need not recover it.  Open transactions are aborted."""
    stray = None
    for known in _heaps.copy():
        heap = known()
        if heap is None:
            continue
        try:
            heap._abort()
            try:
                heap.close()
            except BufferError:
                # Somebody has views of its bytes still, and may use them: it stays open, but what was stored is looked at.
                heap.sync()
                with heap.transaction():
                    pass
        except StrayStore as error:
            stray = error
        except Error:
            pass  # another thread or a snapshot is in the way: then it is as if the program had been killed
    if stray is not None:
        raise stray  # which the interpreter prints


def _close_with_worker():
    """Workers of multiprocessing run what is registered there at their end, and nothing else."""
    global _worker
    _worker = True
    util = sys.modules["multiprocessing.util"]
    # A worker forgets what was registered before it began, which is when its arguments are unpickled, but for this.
    util.register_after_fork(close_all, _register)
    if sys.modules["multiprocessing.process"].parent_process() is not None:
        _register()


def _register(*unused):
    sys.modules["multiprocessing.util"].Finalize(None, close_all, exitpriority=-100)


def _before_fork():
    global _locks
    _importing.acquire()  # else a child could find the module half imported, by a thread that it does not have
    _locks = sys.modules.get("pheap._lock")
    if _locks is not None:
        _locks.before_fork()


def _after_fork():
    if _locks is not None:
        _locks.after_fork()
    _importing.release()


def _after_fork_in_child():
    if _locks is not None:
        _locks.after_fork_in_child()
    _importing.release()
    if not _worker and "multiprocessing.util" in sys.modules:
        _close_with_worker()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
