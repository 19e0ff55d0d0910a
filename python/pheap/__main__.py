# SPDX-License-Identifier: MIT
"""python -m pheap: a heap as Python sees it.  Blocks, logs and backups are the business of the command `pheap`."""

import argparse
import json
import os
import sys
from collections import abc
from itertools import islice

import pheap

from ._json import Decoder, Encoder, NotJson, to_plain

EPILOG = """\
PATH is made of keys and indices from the root: ages/Joe, or list/0.  A key that is no str is written as in Python:
table/b'x', table/"7".  Exits with 1 if something is wrong, with 2 if it was called wrongly.
"""


class Mistake(Exception):
    """What a user has to be told."""


def main(arguments=None):
    options = parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except RecursionError:
        print("pheap: nested too deeply for this", file=sys.stderr)
    except (Mistake, NotJson, pheap.Error, OSError) as error:
        print(f"pheap: {error}", file=sys.stderr)
    return 1


def parser():
    result = argparse.ArgumentParser(
        prog="python -m pheap",
        description="Look at a heap as Python sees it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = result.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name, run, text):
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        added.add_argument("file", metavar="FILE", help="the heap")
        return added

    added = command("show", show, "show what is in a heap, as a tree")
    added.add_argument("path", metavar="PATH", nargs="?", default="", help="only what is there")
    added.add_argument("--depth", type=int, default=4, help="levels that are shown (default: 4)")
    added.add_argument("--items", type=int, default=20, help="entries of a container that are shown (default: 20)")
    added.add_argument("--width", type=int, default=60, help="characters of a value that are shown (default: 60)")
    added = command("dump", dump, "write the values of a heap as JSON")
    added.add_argument("path", metavar="PATH", nargs="?", default="", help="only what is there")
    added.add_argument("--lossless", action="store_true", help="every value comes back as it was, by load --lossless")
    added.add_argument("--indent", type=int, default=None, help="over several lines, indented by so many blanks")
    added = command("load", load, "store the members of a JSON object under the root of a heap, in one transaction")
    added.add_argument("json", metavar="JSON", nargs="?", default="-", help="the document (default: standard input)")
    added.add_argument("--lossless", action="store_true", help="the document was made by dump --lossless")
    added.add_argument("--replace", action="store_true", help="remove what else is in the root")
    command("check", check, "prove that all blocks and values are sound")
    command("collect", collect, "free what cannot be reached from the root any more")
    added = command("info", info, "figures of a heap, and who uses it")
    added.add_argument("--json", action="store_true", help="for programs")
    added = command("shell", shell, "an interactive Python, with `heap` and `root`")
    added.add_argument("--read-only", action="store_true", help="without the right to change anything")
    added.add_argument("--create", action="store_true", help="make the heap if it is not there")
    return result


def open_to_read(path):
    """For reading, if that is possible; what a killed process has left must be written before it can be read."""
    try:
        return pheap.open(path, "r")
    except pheap.ReadOnly:
        return pheap.open(path, "w")


# ------------------------------------------------------------------------------------------------------------ show


def show(options):
    with open_to_read(options.file) as heap, heap.snapshot() as snapshot:
        value = find(snapshot.root, options.path)
        print(f"{options.file}{':' if options.path else ''}{options.path}  {brief(value, options.width)}")
        Tree(options).show(value, "", 1)


def find(value, path):
    """What the path leads to."""
    reached = ""
    for part in path.strip("/").split("/") if path.strip("/") else ():
        value = step(value, part, reached or "the root")
        reached = f"{reached}/{part}"
    return value


def step(value, part, reached):
    if isinstance(value, abc.Mapping):
        for key in (part, literal(part)):
            try:
                return value[key]
            except (KeyError, TypeError):
                continue
        raise Mistake(f"{reached} has no key {part!r}")
    if isinstance(value, abc.Sequence) and not isinstance(value, (str, bytes)):
        try:
            return value[int(part)]
        except ValueError:
            raise Mistake(f"{reached} is a {type(value).__name__}: {part!r} is no index") from None
        except IndexError:
            raise Mistake(f"{reached} has {len(value)} elements, none at {part}") from None
    raise Mistake(f"{reached} is a {type(value).__name__}: nothing is in it by a name")


def literal(text):
    import ast

    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError):
        return text


def is_container(value):
    return isinstance(value, abc.Collection) and not isinstance(value, (str, bytes))


def cut(text, width):
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def brief(value, width):
    """A value on one line; of a container only what it is."""
    if is_container(value):
        return f"{type(value).__name__}, {len(value):,} {'entry' if len(value) == 1 else 'entries'}"
    if isinstance(value, (str, bytes)) and len(value) > width:
        return f"{cut(repr(value[:width]), width)} ({len(value):,} {'characters' if isinstance(value, str) else 'bytes'})"
    if isinstance(value, int) and value.bit_length() > 4000:
        return f"int of {value.bit_length():,} bits"
    return cut(repr(value), width)


class Tree:
    def __init__(self, options):
        self.options = options
        self.shown = {}  # containers by id(), kept so that they stay the objects that they are

    def show(self, value, indent, depth):
        if not is_container(value) or not len(value):
            return
        self.shown[id(value)] = value
        count = len(value)
        if depth > self.options.depth:
            print(f"{indent}└─ …")
            return
        for at, (label, part) in enumerate(islice(self.entries(value), self.options.items)):
            last = at == count - 1
            again = id(part) in self.shown and is_container(part) and not isinstance(part, tuple)
            note = "  (shown above)" if again else ""
            print(f"{indent}{'└─' if last else '├─'} {label}{brief(part, self.options.width)}{note}")
            if not again:
                self.show(part, indent + ("   " if last else "│  "), depth + 1)
        if count > self.options.items:
            print(f"{indent}└─ … {count - self.options.items:,} more")

    def entries(self, value):
        if isinstance(value, abc.Mapping):
            for key, part in value.items():
                yield f"{cut(repr(key), self.options.width)}: ", part
        elif isinstance(value, abc.Sequence):
            for at, part in enumerate(value):
                yield f"{at}: ", part
        else:
            for part in value:
                yield "", part


# ------------------------------------------------------------------------------------------------------------ JSON


def dump(options):
    with open_to_read(options.file) as heap, heap.snapshot() as snapshot:
        value = find(snapshot.root, options.path)
        document = Encoder(value).document if options.lossless else to_plain(value)
    json.dump(document, sys.stdout, indent=options.indent, ensure_ascii=False, allow_nan=False)
    print()


def load(options):
    try:
        if options.json == "-":
            document = json.load(sys.stdin)
        else:
            with open(options.json, encoding="utf-8") as file:
                document = json.load(file)
    except ValueError as error:
        raise Mistake(f"{options.json}: no JSON: {error}") from None
    # Once for nothing, so that no heap is made for a document that is wrong.
    if not isinstance(Decoder(document, options.lossless).value, dict):
        raise Mistake(f"{options.json}: the root is a dict, so the document must be an object")
    with pheap.open(options.file, "c") as heap, heap.transaction():

        def block(data):
            made = heap.alloc(len(data))
            made[:] = data
            return made

        value = Decoder(document, options.lossless, block).value
        if options.replace:
            heap.root.clear()
        try:
            heap.root.update(value)
        except (TypeError, ValueError, OverflowError) as error:  # half a surrogate pair, a type that no heap takes
            raise Mistake(f"{options.json}: {error}") from None


# ------------------------------------------------------------------------------------------------------- the others


def check(options):
    with open_to_read(options.file) as heap:
        faults = heap.check()
        for offset, text in faults:
            print(f"{offset}: {text}")
        if faults:
            raise Mistake(f"{options.file}: {len(faults)} faults; `pheap salvage` saves what can still be proved")
        print(f"{options.file}: sound, {len(heap.root):,} {'key' if len(heap.root) == 1 else 'keys'} in the root")


def collect(options):
    with pheap.open(options.file, "w") as heap:
        freed = heap.collect()
    print(f"{options.file}: {freed:,} {'object' if freed == 1 else 'objects'} freed")


def info(options):
    with open_to_read(options.file) as heap:
        figures = heap.info()
    figures["identity"] = figures["identity"].hex()
    if options.json:
        print(json.dumps(figures))
        return
    users = figures.pop("users")
    for name, value in figures.items():
        print(f"{name:20}  {value:,}" if type(value) is int else f"{name:20}  {value}")
    for user in users:
        what = [word for word in ("self", "writing") if user[word]] + ([] if user["alive"] else ["dead"])
        if user["pins"]:
            what.append(f"reads version {user['pinned_version']:,}")
        print(f"{'user':20}  process {user['pid']}{', ' if what else ''}{', '.join(what)}")


def shell(options):
    import code

    try:
        import readline  # noqa: F401: lines can be edited
    except ImportError:
        pass
    with pheap.open(options.file, "r" if options.read_only else "c" if options.create else "w") as heap:
        names = {"heap": heap, "root": heap.root, "pheap": pheap, "__name__": "__main__"}
        banner = f"Python {sys.version.split()[0]}, pheap: {options.file} is `heap`, its root is `root`; each change is a transaction"
        code.interact(banner, local=names, exitmsg="")
        names.clear()


if __name__ == "__main__":
    sys.exit(main())
