# SPDX-License-Identifier: MIT
"""Values of a heap as what the module json writes, and back: plain JSON, and a lossless form.

Plain JSON has what JSON has: tuples and sets become arrays, keys that are no strings become strings, as the module json
makes them; what has no counterpart is refused.  In the lossless form every other value is an object with one member whose
name begins with "$":

    {"$bytes": "base64"}  {"$tuple": [...]}  {"$set": [...]}  {"$frozenset": [...]}  {"$float": "nan"}
    {"$queue": [maxlen or null, [...]]}  {"$omap": [[key, value]]}  {"$block": "base64"}
    {"$object": [name of the class, {attribute: value}, version, fields]}  the last two for where the class is missing
    {"$int": "0x..."}           an int that JSON readers would not take
    {"$dict": [[key, value]]}   a dict with other keys than str, or with one that begins with "$"
    {"$is": [number, value]}    what is met again, or is in itself: there it is {"$ref": number}

Arrays and rings of structs, and structs with fields that a class cannot have, are refused; `pheap backup` copies all
that there is.
"""

import base64
import math
from collections import abc, deque

from . import Block, Dict, List, OrderedMap, Persistent, PlainOrderedMap, Queue, Set
from ._classes import _CHAR, _STRUCT, attributes, find_class

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


def _parts(value):
    """What is in a value that may be met twice; None: it is none of these."""
    if isinstance(value, Block):
        return ()
    if isinstance(value, Persistent):
        return attributes(value).values()
    if isinstance(value, abc.Mapping):
        return [*value.keys(), *value.values()]
    return value if _is(value, (abc.Sequence, abc.Set)) else None


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
            parts = _parts(value)
            if parts is None:
                continue
            if id(value) in self._met:
                if not isinstance(value, (tuple, frozenset)):
                    self._twice.setdefault(id(value), len(self._twice))
                continue
            self._met[id(value)] = value
            waiting.extend(parts)

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
            return {"$bytes": _base64(value)}
        if isinstance(value, Block) and value._kind == "block":
            return {"$block": _base64(bytes(value))}
        if isinstance(value, Persistent) and not any(map(_is_nested, type(value).__pheap_type__[1])):
            version, fields = type(value).__pheap_type__
            state = {name: self._encode(part, (*path, name)) for name, part in attributes(value).items()}
            return {"$object": [type(value).__pheap_shape__.name, state, version, fields]}
        if isinstance(value, (OrderedMap, PlainOrderedMap)):
            return {"$omap": self._pairs(value, path)}
        if isinstance(value, (dict, Dict)):
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: self._encode(part, (*path, key)) for key, part in value.items()}
            return {"$dict": self._pairs(value, path)}
        if isinstance(value, (deque, Queue)):
            return {"$queue": [value.maxlen, [self._encode(part, (*path, at)) for at, part in enumerate(value)]]}
        for kind, name in ((tuple, "$tuple"), (frozenset, "$frozenset"), ((set, Set), "$set")):
            if isinstance(value, kind):
                return {name: [self._encode(part, (*path, at)) for at, part in enumerate(value)]}
        if isinstance(value, (list, List)):
            return [self._encode(part, (*path, at)) for at, part in enumerate(value)]
        kind = value._kind if isinstance(value, Block) else type(value).__name__
        raise NotJson(f"{place(path)}: the lossless form has nothing for {kind}; `pheap backup` copies all that there is")

    def _pairs(self, value, path):
        return [[self._encode(key, path), self._encode(part, (*path, key))] for key, part in value.items()]


def _is_nested(field):
    """Is it an array, a struct or a bit field, which such an object can only read?"""
    _, kind, _, count, _, bits = field
    return kind == _STRUCT or (count > 1 and kind != _CHAR) or bits > 0


def _base64(data):
    return base64.b64encode(data).decode("ascii")


class Decoder:
    """Plain values of a document of either form, and detached objects.  block: what is made of the bytes of a block."""

    def __init__(self, document, lossless, block=bytes):
        self._lossless = lossless
        self._block = block
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
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
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
        if tag in ("$dict", "$omap"):
            result = self._know(number, {} if tag == "$dict" else PlainOrderedMap())
            for key, element in part:
                result[self._decode(key)] = self._decode(element)
            return result
        if tag == "$queue":
            most, elements = part
            return self._fill(self._know(number, deque(maxlen=most)), elements)
        if tag == "$block":
            return self._know(number, self._block(base64.b64decode(part, validate=True)))
        if tag == "$object":
            name, state, version, fields = part
            cls = find_class(name, version, tuple([tuple(field) for field in fields]))
            result = self._know(number, cls.__new__(cls))
            result.__setstate__({attribute: self._decode(value) for attribute, value in state.items()})
            return result
        raise NotJson(f"no lossless form: {tag!r}")

    def _know(self, number, container):
        if number is not None:
            self._known[number] = container
        return container

    def _fill(self, result, document):
        result.extend([self._decode(part) for part in document])
        return result
