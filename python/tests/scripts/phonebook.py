"""A phone book: add NAME NUMBER [KIND], find NAME, remove NAME, list."""

import shelve
import sys


class Entry:
    def __init__(self, name):
        self.name = name
        self.numbers = []

    def add(self, number, kind):
        self.numbers.append((kind, number))

    def __str__(self):
        numbers = ", ".join("%s (%s)" % (number, kind) for kind, number in self.numbers)
        return "%-10s %s" % (self.name, numbers)


def add(book, name, number, kind="mobile"):
    entry = book.get(name) or Entry(name)
    entry.add(number, kind)
    book[name] = entry
    log = book.get("#log", [])
    log.append(("add", name))
    book["#log"] = log
    print("added %s to %s" % (number, name))


def find(book, name):
    if name in book:
        print(book[name])
    else:
        print("nobody is called", name)


def remove(book, name):
    try:
        del book[name]
    except KeyError:
        sys.exit(2)
    print("removed", name)


def list_all(book):
    for name in sorted(book.keys()):
        if not name.startswith("#"):
            print(book[name])
    print(len(book.get("#log", [])), "changes:", book.get("#log", []))


def main(args):
    commands = {"add": add, "find": find, "remove": remove, "list": list_all}
    if not args or args[0] not in commands:
        print(__doc__)
        return 1
    with shelve.open("phonebook") as book:
        commands[args[0]](book, *args[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
