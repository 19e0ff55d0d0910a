# SPDX-License-Identifier: MIT
"""Values of a heap as what the module json writes, and back: plain JSON, and a lossless form.

Plain JSON has what JSON has: tuples and sets become arrays, keys that are no strings become strings, as the module json
makes them; what has no counterpart is refused.  In the lossless form every other value is an object with one member whose
name begins with "$":

    {"$bytes": "base64"}  {"$tuple": [...]}  {"$set": [...]}  {"$frozenset": [...]}  {"$float": "nan"}
    {"$int": "0x..."}           an int that JSON readers would not take
    {"$dict": [[key, value]]}   a dict with other keys than str, or with one that begins with "$"
    {"$is": [number, value]}    a container that is met again, or is in itself: there it is {"$ref": number}

Values of other kinds (blocks, objects of classes, queues, ordered maps) are refused.
"""

import base64
import math
from collections import abc

from . import Dict, List, Set

# Python refuses to read or write longer ints in decimal (sys.set_int_max_str_digits).
_DECIMAL_BITS = 12000


class NotJson(ValueError):
    """A value that JSON has no counterpart for, or a document that does not come from here."""


def place(path):
    """A path as it is written on the command line."""
    return "/" + "/".join(map(str, path))


def _is(value, kind):
    return isinstance(value, kind) and not isinstance(value, (str, bytes))


def to_plain(value, path=(), within=()):
    """Plain JSON, or NotJson, which names the place."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        if value.bit_length() > _DECIMAL_BITS:
            raise NotJson(f"{place(path)}: an int of {value.bit_length()} bits; see --lossless")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotJson(f"{place(path)}: JSON has no {value}; see --lossless")
        return value
    if any(value is other for other in within):
        raise NotJson(f"{place(path)}: a container that is in itself; see --lossless")
    within = (*within, value)
    if _is(value, abc.Mapping):
        result = {}
        for key, part in value.items():
            name = _plain_key(key, path)
            if name in result:
                raise NotJson(f"{place(path)}: two keys would both be {name!r}; see --lossless")
            result[name] = to_plain(part, (*path, key), within)
        return result
    if _is(value, (abc.Sequence, abc.Set)):
        return [to_plain(part, (*path, at), within) for at, part in enumerate(value)]
    raise NotJson(f"{place(path)}: JSON has nothing for {type(value).__name__}; see --lossless")


def _plain_key(key, path):
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, (bool, int, float)):
        return {None: "null", True: "true", False: "false"}[key] if key is None or isinstance(key, bool) else repr(key)
    raise NotJson(f"{place(path)}: JSON has no keys that are {type(key).__name__}; see --lossless")


class Encoder:
    """The lossless form."""

    def __init__(self, value):
        self._met, self._twice = {}, {}
        self._look(value)
        self._written = set()
        self.document = self._encode(value, ())

    def _look(self, value):
        """Find what is met twice.  Proxies are kept, so that each stays one object."""
        waiting = [value]
        while waiting:
            value = waiting.pop()
            if not _is(value, (abc.Mapping, abc.Sequence, abc.Set)):
                continue
            if id(value) in self._met:
                if not isinstance(value, (tuple, frozenset)):
                    self._twice.setdefault(id(value), len(self._twice))
                continue
            self._met[id(value)] = value
            if isinstance(value, abc.Mapping):
                waiting.extend(value.keys())
                waiting.extend(value.values())
            else:
                waiting.extend(value)

    def _encode(self, value, path):
        number = self._twice.get(id(value))
        if number is None:
            return self._encode_once(value, path)
        if number in self._written:
            return {"$ref": number}
        self._written.add(number)
        return {"$is": [number, self._encode_once(value, path)]}

    def _encode_once(self, value, path):
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, int):
            return value if value.bit_length() <= _DECIMAL_BITS else {"$int": hex(value)}
        if isinstance(value, float):
            return value if math.isfinite(value) else {"$float": repr(value)}
        if isinstance(value, bytes):
            return {"$bytes": base64.b64encode(value).decode("ascii")}
        if isinstance(value, (dict, Dict)):
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: self._encode(part, (*path, key)) for key, part in value.items()}
            return {"$dict": [[self._encode(k, path), self._encode(part, (*path, k))] for k, part in value.items()]}
        for kind, name in ((tuple, "$tuple"), (frozenset, "$frozenset"), ((set, Set), "$set")):
            if isinstance(value, kind):
                return {name: [self._encode(part, (*path, at)) for at, part in enumerate(value)]}
        if isinstance(value, (list, List)):
            return [self._encode(part, (*path, at)) for at, part in enumerate(value)]
        raise NotJson(f"{place(path)}: the lossless form has nothing for {type(value).__name__}")


class Decoder:
    """Plain values of a document of either form."""

    def __init__(self, document, lossless):
        self._lossless = lossless
        self._known = {}
        self.value = self._decode(document)

    def _decode(self, document, number=None):
        if isinstance(document, list):
            return self._fill(self._know(number, []), document)
        if not isinstance(document, dict):
            return document
        tag = next(iter(document)) if self._lossless and len(document) == 1 else ""
        if not tag.startswith("$"):
            result = self._know(number, {})
            for key, part in document.items():
                result[key] = self._decode(part)
            return result
        part = document[tag]
        try:
            return self._decode_tagged(tag, part, number)
        except NotJson:
            raise
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise NotJson(f"no lossless form: {tag!r} with {part!r:.60}: {error}") from None

    def _decode_tagged(self, tag, part, number):
        if tag == "$ref":
            return self._known[part]
        if tag == "$is":
            return self._decode(part[1], part[0])
        if tag == "$int":
            return int(part, 16)
        if tag == "$float":
            return float(part)
        if tag == "$bytes":
            return base64.b64decode(part, validate=True)
        if tag == "$tuple":
            return tuple([self._decode(element) for element in part])
        if tag == "$frozenset":
            return frozenset([self._decode(element) for element in part])
        if tag == "$set":
            result = self._know(number, set())
            result.update([self._decode(element) for element in part])
            return result
        if tag == "$dict":
            result = self._know(number, {})
            for key, element in part:
                result[self._decode(key)] = self._decode(element)
            return result
        raise NotJson(f"no lossless form: {tag!r}")

    def _know(self, number, container):
        if number is not None:
            self._known[number] = container
        return container

    def _fill(self, result, document):
        result.extend([self._decode(part) for part in document])
        return result
