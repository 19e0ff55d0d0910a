# SPDX-License-Identifier: MIT
"""Locks that programs take for themselves: across threads and processes, and over any number of transactions.

A lock is one of two bytes far beyond the end of the heap file, and the kernel keeps it for the open file that locked it
(OFD locks): so it ends with the process, however that dies.  Each holder has an open file of its own, so that threads
exclude each other as processes do.  The bytes are listed in docs/format.md, chapter 8.

The second byte is a gate.  Who wants the lock passes it in the same mode, shared or exclusive, and stays in it while
waiting: so shared holders that come and go do not keep out one that wants the lock alone, nor does one that takes it
again and again keep out all others.
"""

import fcntl
import os
import time
import warnings
from _thread import _local, allocate_lock
from itertools import count
from struct import pack

from . import _errors
from ._log import log
from ._pheap import Proxy

_OBJECTS = 1 << 61  # + the word of the object
_NAMES = 3 << 61  # + 2 + 2 * hash; itself: the lock without a name
_GATE = 1
_PAUSES = 0.0002, 0.01  # between two attempts, at first and at most
_SLOW = 1.0  # seconds, after which a wait is logged

_mutex = allocate_lock()  # for what follows; held while the process forks
_holds = set()  # all that have a file open


class _Hold:
    """One open file that has the lock, or wants it."""

    __slots__ = "file", "owner", "shared", "key", "granted"


class _Thread:
    """A thread, for as long as it lives; its locks end with it.  Identities of the system are given again, these are not."""

    def __init__(self):
        self.number = next(_numbers)
        self.process = os.getpid()

    def __del__(self):
        try:
            # In a child the other threads end, too, and must not take away what they have in the parent.
            mine = [hold for hold in _holds if hold.owner == self.number] if os.getpid() == self.process else ()
        except (AttributeError, TypeError):
            return  # the interpreter ends
        for hold in mine:
            _drop(hold)


_numbers = count()
_threads = _local()


def _me():
    """The number of this thread."""
    try:
        return _threads.it.number
    except AttributeError:
        _threads.it = _Thread()
        return _threads.it.number


def _place(heap, name):
    if name is None:
        return _NAMES
    if isinstance(name, Proxy):
        if name._heap is None or os.path.realpath(name._heap._file) != os.path.realpath(heap._file):
            raise ValueError("the object to be locked is in no heap, or in another one")
        return _OBJECTS + name._word
    if isinstance(name, str):
        name = name.encode("utf-8", "surrogatepass")
    if not isinstance(name, bytes):
        raise TypeError(f"a lock is named by a str, bytes, or an object of the heap, not {type(name).__name__}")
    value = 0xCBF29CE484222325  # FNV-1a
    for byte in name:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return _NAMES + 2 + 2 * (value & (1 << 59) - 1)


def _lock(hold, place, wait):
    """Lock one byte: whether that was possible."""
    kind = fcntl.F_RDLCK if hold.shared else fcntl.F_WRLCK
    try:
        fcntl.fcntl(
            hold.file, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, pack("@hhqqi0q", kind, os.SEEK_SET, place, 1, 0)
        )
    except (BlockingIOError, PermissionError):
        return False
    return True


def _unlock(hold, place, count):
    fcntl.fcntl(hold.file, fcntl.F_OFD_SETLK, pack("@hhqqi0q", fcntl.F_UNLCK, os.SEEK_SET, place, count, 0))


def _drop(hold):
    with _mutex:
        if hold.file >= 0:
            # A process that is just being made may have a copy of the file: closing would leave the lock to it.
            _unlock(hold, hold.key[2], 2)
            _holds.discard(hold)
            file, hold.file = hold.file, -1
            os.close(file)


def before_fork():
    _mutex.acquire()


def after_fork():
    _mutex.release()


def after_fork_in_child():
    """A child has copies of the files, and with them it would keep the locks of its parent after that has died."""
    for hold in _holds:
        os.close(hold.file)
        hold.file = -1
    _holds.clear()
    _mutex.release()


class Lock:
    """What Heap.lock() returns: a lock, to be held within its with block, or from acquire() to release().

    One Lock serves any number of threads, each of which holds it for itself, and at most until it ends.  It is not held by
    the children that a holder forks.  A thread that has the lock and would wait for itself gets a RuntimeError.
    """

    def __init__(self, heap, shared, timeout, name):
        if timeout is not None and not timeout >= 0:
            raise ValueError("a timeout is None, or seconds from 0 on")
        self.heap = heap
        self.name = name
        self.shared = bool(shared)
        self.timeout = timeout
        self._at = _place(heap, name)
        self._mine = {}  # owner: its hold

    def __reduce__(self):
        if isinstance(self.name, Proxy):
            raise TypeError("a lock of an object cannot be pickled, for the object would be a copy")
        return type(self), (self.heap, self.shared, self.timeout, self.name)

    def __repr__(self):
        if isinstance(self.name, Proxy):
            name = f" of the {type(self.name).__name__} at {self._at - _OBJECTS:#x}"
        else:
            name = "" if self.name is None else f" {self.name!r:.80}"
        return f"<{'shared ' if self.shared else ''}lock{name} of {self.heap!r}>"

    @property
    def held(self):
        """Does this thread hold it?"""
        hold = self._mine.get(_me())
        return hold is not None and hold.granted and hold.file >= 0

    def acquire(self):
        """Wait for the lock, at most for the timeout; then pheap.Timeout.

        Within a transaction there is no waiting without a timeout, for the holder may be waiting for that: pheap.Busy.
        """
        hold = self._open(_me())
        try:
            for pause in self._attempts(hold, self.timeout is None and not self.heap.in_transaction):
                time.sleep(pause)
        except BaseException:
            self._forget(hold)
            raise
        return self

    def release(self):
        """Let go of it."""
        self._release(_me())

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *failure):
        hold = self._mine.get(_me())
        if hold is not None and hold.file < 0:
            del self._mine[hold.owner]  # the block was entered in a parent process
        else:
            self.release()

    def __del__(self):
        for hold in list(getattr(self, "_mine", {}).values()):
            if hold.file >= 0:
                warnings.warn(f"{self!r} was not released", ResourceWarning, source=self)
                _drop(hold)

    def _release(self, owner):
        hold = self._mine.get(owner)
        if hold is None:
            raise RuntimeError(f"{self!r} is not held by this thread")
        theirs = hold.file < 0
        self._forget(hold)
        if theirs:
            raise _errors.Forked(f"{self!r} belongs to the parent process")

    def _pause(self, pause, waited):
        """How long to pause, after having waited so long: an exception if there is no time left."""
        if self.timeout is None:
            if self.heap.in_transaction:
                raise _errors.Busy(
                    f"{self!r} is held by another, who may be waiting for the transaction that the caller has open: take "
                    "locks before transactions, or give a timeout"
                )
            return pause
        if waited >= self.timeout:
            raise _errors.Timeout(f"{self!r} is held by another: waited for {waited:.3g} s")
        return min(pause, self.timeout - waited)

    def _forget(self, hold):
        _drop(hold)  # first: an interrupt must not find a lock that nobody knows of
        if self._mine.get(hold.owner) is hold:
            del self._mine[hold.owner]

    def _open(self, owner):
        """A hold of this owner, which has nothing yet."""
        if self.heap.closed:
            raise _errors.Closed(f"{self.heap!r} is closed")
        hold = _Hold()
        hold.owner, hold.shared, hold.granted = owner, self.shared, False
        with _mutex:
            hold.file = self._open_file()
            status = os.fstat(hold.file)
            if (status.st_dev, status.st_ino) != self.heap._inode:
                os.close(hold.file)
                raise _errors.Replaced(f"{self.heap.path}: another file is in the place of the heap")
            hold.key = status.st_dev, status.st_ino, self._at
            for other in _holds:
                if other.key == hold.key and other.owner == owner and not (self.shared and other.shared and other.granted):
                    os.close(hold.file)
                    raise RuntimeError(f"{self!r} is held by the caller, who would wait for itself")
            if owner in self._mine and self._mine[owner].file >= 0:
                os.close(hold.file)
                raise RuntimeError(f"{self!r} is held by the caller: take it again with another Lock")
            _holds.add(hold)
        self._mine[owner] = hold
        return hold

    def _open_file(self):
        try:
            return os.open(self.heap._file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _errors.Replaced(f"{self.heap.path}: the file of the heap is gone") from None
        except OSError as error:
            if self.shared:
                return os.open(self.heap._file, os.O_RDONLY | os.O_CLOEXEC)
            raise _errors.Permission(
                f"{self.heap.path}: an exclusive lock needs a file that may be written: {error}"
            ) from None

    def _attempts(self, hold, wait):
        """Yields how long to pause before the next attempt, until the lock is there; with `wait` it blocks instead."""
        pause, most = _PAUSES
        begun = time.monotonic()
        for place in (self._at + _GATE, self._at):
            while not _lock(hold, place, wait):
                yield self._pause(pause, time.monotonic() - begun)
                pause = min(2 * pause, most)
        waited = time.monotonic() - begun
        if waited >= _SLOW:
            log("info", "%r: waited for %.1f s", self, waited)
        _unlock(hold, self._at + _GATE, 1)
        hold.granted = True
