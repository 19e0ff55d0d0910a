# SPDX-License-Identifier: MIT
"""Exceptions: one class for each status of the C library, with the built-in exception that it is kin to."""

import errno


class Error(Exception):
    """Anything that goes wrong with a heap.  Its text names file, place and remedy."""

    status = 0


class Closed(Error, ValueError):
    """The heap or the snapshot is closed."""


class Aborted(Error, ReferenceError):
    """The object is gone: the transaction that made it was aborted, or, if it is a block or a struct, it was removed."""


BY_STATUS = {}


def _define(status, name, kin, text, number=None):
    members = {"__doc__": text, "__module__": "pheap", "status": status}
    if number is not None:
        members["errno"] = number
    BY_STATUS[status] = globals()[name] = type(name, (Error, kin) if kin else (Error,), members)


_define(1, "Invalid", ValueError, "An argument is out of its range.")
_define(2, "NotFound", FileNotFoundError, "There is no such heap.", errno.ENOENT)
_define(3, "Exists", FileExistsError, "The file to be created is there.", errno.EEXIST)
_define(4, "NotHeap", ValueError, "Another kind of file.")
_define(5, "Corrupt", None, "Damage that cannot come from a crash.")
_define(6, "Newer", None, "Written by a newer version.")
_define(7, "ByteOrder", None, "Written with another byte order.")
_define(8, "LogMissing", FileNotFoundError, "Recovery needs the log, which is not there.", errno.ENOENT)
_define(9, "LogForeign", None, "The log belongs to another heap.")
_define(10, "ReadOnly", PermissionError, "The heap, or the object, is only for reading.", errno.EROFS)
_define(11, "Permission", PermissionError, "The operating system refused access.", errno.EACCES)
_define(12, "InputOutput", OSError, "The operating system reported an input/output error.", errno.EIO)
_define(13, "NoSpace", OSError, "No space on the device.", errno.ENOSPC)
_define(14, "NoMemory", MemoryError, "The process is out of memory or address space.")
_define(15, "Reserve", MemoryError, "The heap outgrew the address space reserved for it.")
_define(16, "LogFull", None, "The log is at its limit and cannot be recycled.")
_define(17, "TooBig", MemoryError, "A transaction exceeds the memory or the log.")
_define(18, "Busy", BlockingIOError, "Somebody is in the way.", errno.EBUSY)
_define(19, "Timeout", TimeoutError, "The time given ran out.", errno.ETIMEDOUT)
_define(20, "Poisoned", OSError, "A sync failed: close the heap everywhere and open it again.", errno.EIO)
_define(21, "Ended", RuntimeError, "The transaction has ended.")
_define(22, "WrongThread", RuntimeError, "The transaction belongs to another thread.")
_define(23, "Forked", RuntimeError, "The transaction or snapshot belongs to the parent process.")
_define(24, "BadOffset", ValueError, "No block of the heap.")
_define(25, "DoubleFree", ValueError, "The block is free.")
_define(26, "StrayStore", None, "A store that was not declared.")
_define(27, "Namespace", None, "The users of the heap are in different PID namespaces.")
_define(28, "Unsupported", NotImplementedError, "The file system or platform lacks something.")
_define(29, "End", StopIteration, "The end of an enumeration.")
_define(30, "Replaced", OSError, "The files of the heap were removed, renamed or replaced.", errno.ESTALE)
_define(31, "Full", OSError, "The heap cannot grow.", errno.EFBIG)
_define(32, "Evicted", None, "The version that was read has been taken away.")
_define(33, "Budget", MemoryError, "Changed pages are at the memory budget.")
_define(34, "WrongType", TypeError, "A value, key or heap is of another type.")

Error.__module__ = Closed.__module__ = Aborted.__module__ = "pheap"
__all__ = ["Error", "Closed", "Aborted", *(cls.__name__ for cls in BY_STATUS.values())]
