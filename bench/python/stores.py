# SPDX-License-Identifier: MIT
"""What the package is measured beside: how each store does the same thing, and what of it survives what.

A store has tables of str keys and int values.  Each of its methods gives the statement to be timed as the arguments of
harness.loop(); what a store cannot do it has no method for.  release() ends what was begun for reading, which keeps a
store from using space again.
"""

import importlib.util
import os

NOTHING = ""
PROCESS = "a crash of the process"
POWER = "a power cut"


without = set()  # modules to be taken as if they were not installed


def missing(*modules):
    return any(module in without or importlib.util.find_spec(module) is None for module in modules)


class Store:
    def release(self):
        pass


class Plain(Store):
    name, keeps = "dict, list", NOTHING
    needs = ()

    def __init__(self, directory):
        self.sequence, self.counts = [], {"x": 0}

    def table(self, number, pairs):
        return dict(pairs)

    def get(self, table):
        return {"statement": "m[k]", "m": table}

    def set(self, table):
        return {"statement": "m[k] = v", "m": table}

    batch = set

    def add(self):
        return {"statement": 'm["x"] += 1', "m": self.counts}

    def append(self):
        return {"statement": "m.append(v)", "m": self.sequence}

    def iterate(self, numbers):
        return {"statement": "sum(m)", "m": list(numbers)}

    def close(self):
        pass


class Pheap(Store):
    name, keeps, durable = "pheap, LAZY", PROCESS, False
    needs = ("pheap",)

    def __init__(self, directory):
        import pheap

        self.heap = pheap.open(os.path.join(directory, f"{type(self).__name__}.heap"), "n", durable=self.durable)
        self.heap.root.update({"append": [], "x": 0})
        self.snapshots = []

    def table(self, number, pairs):
        self.heap.root[f"table {number}"] = dict(pairs)
        return self.heap.root[f"table {number}"]

    def get(self, table):
        return {"statement": "m[k]", "m": table}

    def set(self, table):
        return {"statement": "m[k] = v", "m": table}

    def get_from_snapshot(self, number):
        snapshot = self.heap.snapshot()
        self.snapshots.append(snapshot)
        return self.get(snapshot.root[f"table {number}"])

    def release(self):
        for snapshot in self.snapshots:
            snapshot.close()
        self.snapshots.clear()

    def transaction(self, arguments):
        ends = {"before": "t.__enter__()", "after": "t.__exit__(None, None, None)", "t": self.heap.transaction()}
        return {**arguments, **ends}

    def batch(self, table):
        return self.transaction(self.set(table))

    def add(self):
        return {"statement": 'm["x"] += 1', "m": self.heap.root}

    def append(self):
        return {"statement": "m.append(v)", "m": self.heap.root["append"]}

    def appends(self):
        return self.transaction(self.append())

    def iterate(self, numbers):
        self.heap.root["iterate"] = list(numbers)
        return {"statement": "sum(m)", "m": self.heap.root["iterate"]}

    def close(self):
        self.heap.close()


class DurablePheap(Pheap):
    name, keeps, durable = "pheap, DURABLE", POWER, True


class Shelve(Store):
    name, keeps = "shelve", "nothing; a crash may damage the file"
    needs = ()

    def __init__(self, directory):
        import dbm
        import shelve

        self.directory, self.shelves = directory, []
        self.counts = self.table("x", [("x", 0)])
        self.name = f"shelve ({dbm.whichdb(os.path.join(directory, 'shelf x'))})"
        self.open = shelve.open

    def table(self, number, pairs):
        import shelve

        made = shelve.open(os.path.join(self.directory, f"shelf {number}"), "n")
        made.update(pairs)
        self.shelves.append(made)
        return made

    get, set, batch = Plain.get, Plain.set, Plain.set

    def add(self):
        return {"statement": 'm["x"] += 1', "m": self.counts}

    def close(self):
        for shelf in self.shelves:
            shelf.close()


class Sqlite(Store):
    name, keeps, level = "sqlite3, WAL NORMAL", PROCESS, "NORMAL"
    needs = ("sqlite3",)

    def __init__(self, directory):
        import sqlite3

        path = os.path.join(directory, f"{type(self).__name__}.db")
        self.base = sqlite3.connect(path, isolation_level=None)
        self.base.execute("PRAGMA journal_mode=WAL")
        self.base.execute(f"PRAGMA synchronous={self.level}")
        self.base.execute("CREATE TABLE sequence (value INTEGER)")
        self.base.execute("CREATE TABLE iterated (value INTEGER)")
        self.table("x", [("x", 0)])

    def table(self, number, pairs):
        self.base.execute(f"CREATE TABLE map{number} (key TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID")
        self.base.execute("BEGIN")
        self.base.executemany(f"INSERT INTO map{number} VALUES (?, ?)", pairs)
        self.base.execute("COMMIT")
        return number

    def get(self, table):
        query = f"SELECT value FROM map{table} WHERE key = ?"
        return {"statement": "e(q, (k,)).fetchone()[0]", "e": self.base.execute, "q": query}

    def set(self, table):
        query = f"UPDATE map{table} SET value = ? WHERE key = ?"
        return {"statement": "e(q, (v, k))", "e": self.base.execute, "q": query}

    def batch(self, table):
        return {**self.set(table), "before": 'e("BEGIN")', "after": 'e("COMMIT")'}

    def add(self):
        return {"statement": "e(q)", "e": self.base.execute, "q": "UPDATE mapx SET value = value + 1 WHERE key = 'x'"}

    def append(self):
        return {"statement": "e(q, (v,))", "e": self.base.execute, "q": "INSERT INTO sequence VALUES (?)"}

    def appends(self):
        return {**self.append(), "before": 'e("BEGIN")', "after": 'e("COMMIT")'}

    def iterate(self, numbers):
        self.base.execute("BEGIN")
        self.base.executemany("INSERT INTO iterated VALUES (?)", ((number,) for number in numbers))
        self.base.execute("COMMIT")
        query = "SELECT value FROM iterated ORDER BY rowid"
        return {"statement": "sum(row[0] for row in e(q))", "e": self.base.execute, "q": query}

    def close(self):
        self.base.close()


class FullSqlite(Sqlite):
    name, keeps, level = "sqlite3, WAL FULL", POWER, "FULL"


class Lmdb(Store):
    name, keeps, sync = "py-lmdb, sync=False", PROCESS + "; a power cut may damage the file", False
    needs = ("lmdb",)

    def __init__(self, directory):
        import lmdb

        path = os.path.join(directory, type(self).__name__)
        self.env = lmdb.open(path, map_size=16 << 30, max_dbs=16, sync=self.sync, metasync=self.sync)
        self.readers = []
        self.counts = self.table("x", [("x", 0)])
        self.sequence = self.env.open_db(b"sequence", integerkey=True)

    def table(self, number, pairs):
        base = self.env.open_db(str(number).encode())
        with self.env.begin(write=True, db=base) as txn:
            for key, value in pairs:
                txn.put(key.encode(), value.to_bytes(8, "little"))
        return base

    def get(self, table):
        reader = self.env.begin(db=table)
        self.readers.append(reader)
        return {"statement": 'i(g(k.encode()), "little")', "i": int.from_bytes, "g": reader.get}

    def set(self, table):
        statement = "with b(write=True, db=t) as x: x.put(k.encode(), v.to_bytes(8, 'little'))"
        return {"statement": statement, "b": self.env.begin, "t": table}

    def batch(self, table):
        statement = "x.put(k.encode(), v.to_bytes(8, 'little'))"
        return self.transaction(statement, table)

    def add(self):
        statement = "with b(write=True, db=t) as x: x.put(b'x', (i(x.get(b'x'), 'little') + 1).to_bytes(8, 'little'))"
        return {"statement": statement, "b": self.env.begin, "t": self.counts, "i": int.from_bytes}

    def append(self):
        statement = (
            "with b(write=True, db=t) as x: x.put(v.to_bytes(8, 'little'), v.to_bytes(8, 'little'), append=True)"
        )
        return {"statement": statement, "b": self.env.begin, "t": self.sequence}

    def appends(self):
        statement = "x.put(v.to_bytes(8, 'little'), v.to_bytes(8, 'little'), append=True)"
        return self.transaction(statement, self.sequence)

    def transaction(self, statement, table):
        ends = {"before": "x = b(write=True, db=t)", "after": "x.commit()"}
        return {"statement": statement, **ends, "b": self.env.begin, "t": table}

    def iterate(self, numbers):
        base = self.env.open_db(b"iterated", integerkey=True)
        with self.env.begin(write=True, db=base) as txn:
            for number in numbers:
                txn.put(number.to_bytes(8, "little"), number.to_bytes(8, "little"))
        reader = self.env.begin(db=base)
        self.readers.append(reader)
        statement = 'sum(i(value, "little") for value in r.cursor().iternext(keys=False))'
        return {"statement": statement, "r": reader, "i": int.from_bytes}

    def release(self):
        for reader in self.readers:
            reader.abort()
        self.readers.clear()  # py-lmdb 1.4.0 crashes if they end after their environment

    def close(self):
        self.release()
        self.env.close()


class SyncLmdb(Lmdb):
    name, keeps, sync = "py-lmdb", POWER, True


class Zodb(Store):
    name, keeps = "ZODB (FileStorage, BTree)", POWER
    needs = ("ZODB", "BTrees", "transaction")

    def __init__(self, directory):
        import transaction
        import ZODB.FileStorage
        from persistent.list import PersistentList
        from persistent.mapping import PersistentMapping

        self.commit = transaction.commit
        self.base = ZODB.DB(ZODB.FileStorage.FileStorage(os.path.join(directory, "zodb.fs")))
        self.root = self.base.open().root()
        self.root["counts"] = PersistentMapping(x=0)
        self.root["list"], self.root["iterated"] = PersistentList(), PersistentList()
        self.commit()

    def table(self, number, pairs):
        from BTrees.OOBTree import OOBTree

        self.root[number] = OOBTree(pairs)
        self.commit()
        return self.root[number]

    get = Plain.get

    def set(self, table):
        return {"statement": "m[k] = v; c()", "m": table, "c": self.commit}

    def batch(self, table):
        return {"statement": "m[k] = v", "after": "c()", "m": table, "c": self.commit}

    def add(self):
        return {"statement": 'm["x"] += 1; c()', "m": self.root["counts"], "c": self.commit}

    def append(self):
        return {"statement": "m.append(v); c()", "m": self.root["list"], "c": self.commit}

    def appends(self):
        return {"statement": "m.append(v)", "after": "c()", "m": self.root["list"], "c": self.commit}

    def iterate(self, numbers):
        self.root["iterated"].extend(numbers)
        self.commit()
        return {"statement": "sum(m)", "m": self.root["iterated"]}

    def close(self):
        self.base.close()


class Diskcache(Store):
    name, keeps = "diskcache", PROCESS
    needs = ("diskcache",)

    def __init__(self, directory):
        import diskcache

        self.directory, self.opened, self.module = directory, [], diskcache
        self.counts = self.table("x", [("x", 0)])
        self.sequence = diskcache.Deque(directory=os.path.join(directory, "deque"))

    def table(self, number, pairs):
        made = self.module.Index(os.path.join(self.directory, f"index {number}"))
        with made.transact():
            made.update(pairs)
        self.opened.append(made.cache)
        return made

    get, set = Plain.get, Plain.set

    def batch(self, table):
        return {
            "statement": "m[k] = v",
            "before": "t = m.transact(); t.__enter__()",
            "after": "t.__exit__(None, None, None)",
            "m": table,
        }

    def add(self):
        return {"statement": 'm["x"] += 1', "m": self.counts}

    def append(self):
        return {"statement": "m.append(v)", "m": self.sequence}

    def appends(self):
        before = "t = m.transact(); t.__enter__()"
        return {**self.append(), "before": before, "after": "t.__exit__(None, None, None)"}

    def iterate(self, numbers):
        made = self.module.Deque(directory=os.path.join(self.directory, "iterated"))
        with made.transact():
            made.extend(numbers)
        self.opened.append(made)
        return {"statement": "sum(m)", "m": made}

    def close(self):
        for cache in self.opened:
            getattr(cache, "_cache", cache).close()
        self.sequence._cache.close()


class Manager(Store):
    name, keeps = "Manager().dict, .list", "nothing; gone with its process"
    needs = ("multiprocessing",)

    def __init__(self, directory):
        import multiprocessing

        self.manager = multiprocessing.Manager()
        self.counts = self.manager.dict(x=0)

    def table(self, number, pairs):
        return self.manager.dict(pairs)

    get, set = Plain.get, Plain.set
    add = Shelve.add

    def append(self):
        return {"statement": "m.append(v)", "m": self.manager.list()}

    def iterate(self, numbers):
        return {"statement": "sum(m)", "m": self.manager.list(numbers)}

    def close(self):
        self.manager.shutdown()


class Shareable(Store):
    name, keeps = "ShareableList, by index", "nothing; gone with its processes"
    needs = ("multiprocessing",)

    def __init__(self, directory):
        self.lists = [self.new([0])]

    def new(self, values):
        from multiprocessing.shared_memory import ShareableList

        return ShareableList(values)

    def table(self, number, pairs):
        made = self.new([value for _, value in pairs])
        self.lists.append(made)
        self.places = {key: place for place, (key, _) in enumerate(pairs)}
        return made

    def get(self, table):
        return {"statement": "m[i[k]]", "m": table, "i": self.places}

    def set(self, table):
        return {"statement": "m[i[k]] = v", "m": table, "i": self.places}

    def add(self):
        return {"statement": "m[0] += 1", "m": self.lists[0]}

    def iterate(self, numbers):
        self.lists.append(self.new(list(numbers)))
        return {"statement": "sum(m)", "m": self.lists[-1]}

    def close(self):
        for shared in self.lists:
            shared.shm.close()
            shared.shm.unlink()


STORES = [
    Plain,
    Pheap,
    DurablePheap,
    Shelve,
    Sqlite,
    FullSqlite,
    Lmdb,
    SyncLmdb,
    Zodb,
    Diskcache,
    Manager,
    Shareable,
]

# Opening and the first value in a fresh process: {path} has the key "x".
FRESH = {
    "pheap": (("pheap",), "import pheap; h = pheap.open({path!r}, 'c'); h.root['x']"),
    "shelve": ((), "import shelve; s = shelve.open({path!r}, 'c'); s['x']"),
    "sqlite3": (
        ("sqlite3",),
        "import sqlite3; b = sqlite3.connect({path!r}); "
        "b.execute(\"SELECT value FROM mapx WHERE key = 'x'\").fetchone()[0]",
    ),
    "py-lmdb": (
        ("lmdb",),
        "import lmdb; e = lmdb.open({path!r}, max_dbs=1); d = e.open_db(b'x'); t = e.begin(db=d); "
        "int.from_bytes(t.get(b'x'), 'little')",
    ),
    "ZODB (FileStorage)": (("ZODB",), "import ZODB; ZODB.DB({path!r}).open().root()['counts']['x']"),
    "diskcache": (("diskcache",), "import diskcache; diskcache.Index({path!r})['x']"),
}


def fresh_path(name, directory):
    """Where the stores above leave what a fresh process opens."""
    return os.path.join(
        directory,
        {
            "pheap": "Pheap.heap",
            "shelve": "shelf x",
            "sqlite3": "Sqlite.db",
            "py-lmdb": "Lmdb",
            "ZODB (FileStorage)": "zodb.fs",
            "diskcache": "index x",
        }[name],
    )
