# SPDX-License-Identifier: MIT
"""Heaps in programs of asyncio: to wait without stopping the loop.

    async with aio.transaction(heap):
        heap.root["visitors"] += 1
    version = await aio.wait(heap, heap.version)
    async for version in aio.changes(heap):
        ...

Reading and changing take microseconds and are done in the thread of the loop as everywhere.  What may take longer is
here: the turn of a writer, a lock, a sync, and the commits of others.
"""

import asyncio
import contextlib
import os
import time

from . import _errors
from ._lock import Lock
from ._pheap import Watch

__all__ = ["transaction", "lock", "sync", "wait", "changes"]

_PAUSES = 0.0005, 0.01  # between two attempts to become the writer, at first and at most


class transaction:
    """transaction(heap, *, durable=None, timeout=None, lazy=None): async with heap.transaction(), with the same arguments.

    It is that of the task: other tasks do not look into it, and wait for its end when they ask for one with this
    class; a change of theirs that is no such transaction is refused with pheap.Busy.  Every other process waits for it too, so
    it should not wait for what takes long.  A durable one is on stable storage when the block has been left.  A task that is
    cancelled in the block has changed nothing; one that is cancelled while leaving it may have.  Within a transaction of the
    same task it is a savepoint.  Tasks that a task makes, also by gather(), are others.

    There must be no await within the block of a plain `with heap.transaction()`: that is of all tasks of the thread.
    """

    def __init__(self, heap, *, durable=None, timeout=None, lazy=None):
        if lazy is not None:
            if durable is not None:
                raise TypeError("lazy=True is durable=False: give one of them")
            durable = not lazy
        self._heap = heap
        self._durable = heap.durable if durable is None else bool(durable)
        self._timeout = timeout
        self._inner = None

    async def __aenter__(self):
        heap = self._heap
        self._nested = heap.in_transaction
        inner = heap.transaction(durable=False, timeout=None if self._nested else 0)
        if self._nested:
            inner.__enter__()
        else:
            await self._turn(inner)
            heap._bind(asyncio.current_task(), asyncio.current_task)
        self._inner = inner
        return self

    async def _turn(self, inner):
        begun = time.monotonic()
        pause, most = _PAUSES
        while True:
            try:
                return inner.__enter__()
            except (_errors.Timeout, _errors.Busy) as error:
                left = most if self._timeout is None else self._timeout - (time.monotonic() - begun)
                if left <= 0:
                    raise _errors.Timeout(str(error)) from None
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, most)

    async def __aexit__(self, *failure):
        inner, self._inner = self._inner, None
        try:
            inner.__exit__(*failure)
        finally:
            if not self._nested and not self._heap.in_transaction:
                self._heap._bind(None, None)
        if self._durable and not self._nested and failure[0] is None:
            await sync(self._heap)


@contextlib.asynccontextmanager
async def lock(heap, shared=False, timeout=None, name=None):
    """async with heap.lock(), with the same arguments; the task holds it, not the thread."""
    mine = Lock(heap, shared, timeout, name)
    owner = asyncio.current_task()
    hold = mine._open(owner)
    try:
        for pause in mine._attempts(hold, False):
            await asyncio.sleep(pause)
        yield mine
    finally:
        mine._forget(hold)


async def sync(heap):
    """Make every commit that has returned durable."""
    await asyncio.get_running_loop().run_in_executor(None, heap.sync)


async def wait(heap, version, timeout=None):
    """Wait until anybody has made a commit after this version, and return the number of the newest.  pheap.Timeout."""
    newest = heap.version
    if newest > version:
        return newest
    commits = changes(heap, version)
    try:
        async with asyncio.timeout(timeout):
            return await anext(commits)
    except TimeoutError:
        raise _errors.Timeout(f"{heap.path}: no commit after version {version} in {timeout} s") from None
    finally:
        await commits.aclose()


async def changes(heap, version=None):
    """The numbers of the newest commits after `version`, or from now on, as they are made: async for ... in changes(heap).

    Several commits may be told of as one.  A heap is not closed while somebody waits so: pheap.Busy.
    """
    if version is None:
        version = heap.version
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    file = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    watch = None

    def read():
        os.eventfd_read(file)
        told.set()

    try:
        watch = Watch(heap, version, file)
        loop.add_reader(file, read)
        while True:
            newest = heap.version
            if newest > version:
                version = newest
                yield version
            else:
                await told.wait()
            told.clear()
    finally:
        if watch is not None:
            loop.remove_reader(file)
            watch.close()
        os.close(file)
