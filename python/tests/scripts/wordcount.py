"""Count the words of files, and remember the counts of files that have not changed."""

import shelve
import os
import re
import sys
from collections import Counter


class Count:
    """What is remembered of one file."""

    def __init__(self, path, stamp):
        self.path = path
        self.stamp = stamp
        with open(path) as file:
            self.words = Counter(re.findall(r"\w+", file.read().lower()))


def count(cache, path):
    stamp = os.stat(path).st_mtime_ns, os.stat(path).st_size
    name = os.path.abspath(path)
    try:
        known = cache[name]
    except KeyError:
        known = None
    if known is None or known.stamp != stamp:
        known = cache[name] = Count(path, stamp)
        cache["misses"] = cache.get("misses", 0) + 1
        print("counted", os.path.basename(path))
    else:
        cache["hits"] = cache.get("hits", 0) + 1
        print("cached", os.path.basename(path))
    return known.words


def main(paths):
    cache = shelve.open("wordcount.cache", writeback=True)
    try:
        history = cache.setdefault("history", [])
        total = Counter()
        for path in paths:
            words = count(cache, path)
            total.update(words)
            history.append({"file": os.path.basename(path), "words": sum(words.values())})
        for word, number in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:5]:
            print("%6d %s" % (number, word))
        print(cache.get("hits", 0), "hits,", cache.get("misses", 0), "misses")
        print(cache["history"])
    finally:
        cache.close()


if __name__ == "__main__":
    main(sys.argv[1:])
