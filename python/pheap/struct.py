# SPDX-License-Identifier: MIT
"""Structs by key, where they lie in the heap: index and data change in one transaction.

    import ctypes
    import pheap.struct

    class Point(ctypes.Structure):
        _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]

    store = pheap.struct.Store(heap, "points")
    store.new("home", Point).x = 3
    store.new("path", Point * 1_000_000)            # takes no disk until it is written
    store.new("log", pheap.struct.RingOf(Point, 100)).push(Point(1, 2.0))
    store["home"].x += 1

What comes back are Struct, Array and Ring objects: places in the heap.  Nothing is copied or converted but the number that
is asked for.  A place reads like every object of a heap: from the transaction of the thread, else from the snapshot that it
came from, else the newest version, of whatever process; so two reads may see two versions, unless they are within a
transaction or a snapshot.  A store to a field is a transaction of its own, or part of the open one.  In C the same bytes are
found by pht_map_get(), and pht_record_at(), pht_array_at() or pht_ring_at().

map() gives an object of ctypes in place, array.numpy() a numpy array, with the rules for views of pheap.Block: to be made
and changed in transactions.

The layout of a type is entered in the heap, by the name of the class (or its _pheap_name_) and a version (_pheap_version_,
0), with the name, kind, place and size of each field; a type that differs is refused, and the error names the field.
Pointers, objects and other addresses cannot be in a heap, nor long double, wchar_t and the other byte order.
"""

import ctypes as _ctypes
from collections import abc as _abc

from . import _pheap
from ._block import numpy as _numpy
from ._errors import WrongType

__all__ = ["Store", "Struct", "Array", "Ring", "RingOf", "map", "copy", "assign"]

_SIGNED, _UNSIGNED, _FLOAT, _BOOL, _CHAR, _STRUCT = 1, 2, 3, 4, 5, 7
_CODES = {**dict.fromkeys("bhilq", _SIGNED), **dict.fromkeys("BHILQ", _UNSIGNED), "f": _FLOAT, "d": _FLOAT, "?": _BOOL, "c": _CHAR}
_LETTERS = {_SIGNED: "i", _UNSIGNED: "u", _FLOAT: "f", _BOOL: "?", _CHAR: "c"}
_NAMES = {_SIGNED: "int", _UNSIGNED: "uint", _FLOAT: "float", _BOOL: "bool", _CHAR: "char"}
_KINDS = {_SIGNED: "signed", _UNSIGNED: "unsigned", _FLOAT: "float", _BOOL: "bool", _CHAR: "char", _STRUCT: "struct", 6: "value"}

_SimpleType = _ctypes.c_int.__mro__[1]
_Pointer = _ctypes.POINTER(_ctypes.c_int).__mro__[1]


class RingOf:
    """A ring of the last `count` structs, as a type for Store.new()."""

    def __init__(self, ctype, count):
        self.ctype, self.count = ctype, count

    def __repr__(self):
        return f"RingOf({self.ctype.__name__}, {self.count})"


# ----------------------------------------------------------------------------------------------------------- layouts


def _refuse(where, ctype, why):
    raise TypeError(f"{where}: {getattr(ctype, '__name__', ctype)} cannot be in a heap: {why}")


def _is(ctype, base):
    return isinstance(ctype, type) and issubclass(ctype, base)


def _flat(ctype):
    """The elements of an array of arrays, and how many there are."""
    count = 1
    while _is(ctype, _ctypes.Array):
        count *= ctype._length_
        ctype = ctype._type_
    return ctype, count


def _check(ctype, where):
    """Refuse what a heap cannot have: the kind of a type."""
    if _is(ctype, (_ctypes.Structure, _ctypes.Union)):
        if hasattr(ctype, "_swappedbytes_"):
            _refuse(where, ctype, "its bytes are in the other order, and a C program would not know")
        return _STRUCT
    if _is(ctype, (_Pointer, _ctypes._CFuncPtr)) or (_is(ctype, _SimpleType) and ctype._type_ in "PzZOX"):
        _refuse(where, ctype, "an address means nothing in another process, or tomorrow")
    if not _is(ctype, _SimpleType) or ctype._type_ not in _CODES:
        _refuse(where, ctype, "only integers, float, double, bool and char, and structs, unions and arrays of such can")
    if ctype is not _ctypes.c_char and getattr(ctype, "__ctype_le__", ctype) is not ctype:
        _refuse(where, ctype, "its bytes are in the other order")
    return _CODES[ctype._type_]


def _declared(ctype):
    """The fields of a struct: (name, type, offset, first bit, bits)."""
    for base in reversed(ctype.__mro__):
        for name, kind, *_ in base.__dict__.get("_fields_", ()):
            field = getattr(base, name)
            bits = field.size >> 16
            yield name, kind, field.offset, field.size & 0xFFFF if bits else 0, bits


def _layout(ctype):
    """(name, version, size, fields) of a type: as show_type() tells them, but with types of ctypes instead of numbers."""
    where = getattr(ctype, "__name__", repr(ctype))
    if _is(ctype, (_ctypes.Structure, _ctypes.Union)):
        _check(ctype, where)
        name = getattr(ctype, "_pheap_name_", ctype.__name__)
        fields = tuple(_entry(f"{where}.{field}", field, *rest) for field, *rest in _declared(ctype))
        if _ctypes.sizeof(ctype) == 0:
            _refuse(where, ctype, "it has no bytes")
        return name, getattr(ctype, "_pheap_version_", 0), _ctypes.sizeof(ctype), fields
    element, count = _flat(ctype)
    kind = _check(element, where)
    name = element.__name__ if kind == _STRUCT else _NAMES[kind] + str(8 * _ctypes.sizeof(element))
    if _is(ctype, _ctypes.Array):
        name += f"[{count}]"
    return name, 0, _ctypes.sizeof(ctype), (_entry(where, "value", ctype, 0, 0, 0),)


def _entry(where, name, ctype, offset, bit_first, bit_count):
    element, count = _flat(ctype)
    kind = _check(element, where)
    if count == 0:
        _refuse(where, ctype, "it has no elements")
    return name, kind, _ctypes.sizeof(element), offset, count, bit_first, bit_count, element if kind == _STRUCT else None


def _register(heap, ctype):
    """The number of a type, entered in the heap if it is not."""
    name, version, size, fields = _layout(ctype)
    fields = tuple((*field[:7], _register(heap, field[7]) if field[7] else 0) for field in fields)
    return _pheap.register_type(heap, name, version, size, fields)


_FIELD = "name", "kind", "size", "offset", "count", "first bit", "bits"


def _compare(block, number, ctype):
    """WrongType if the type of this number is another one."""
    name, version, size, fields = _pheap.show_type(block, number)
    own_name, own_version, own_size, own_fields = _layout(ctype)

    def differ(what, there, here):
        raise WrongType(f"the heap has a struct {name!r} (version {version}), not {own_name!r}: {what} is {there}, not {here}")

    if (name, version) != (own_name, own_version):
        differ("its name and version", (name, version), (own_name, own_version))
    for field, own in zip(fields, own_fields):
        for what, there, here in zip(_FIELD, field, own):
            if there != here:
                if what == "kind":
                    there, here = _KINDS.get(there, there), _KINDS[here]
                differ(f"the {what} of the field {own[0]!r}" if what != "name" else "a field", there, here)
        if own[7] is not None:
            _compare(block, field[7], own[7])
    if len(fields) != len(own_fields):
        differ("the number of fields", len(fields), len(own_fields))
    if size != own_size:
        differ("its size", size, own_size)


# ------------------------------------------------------------------------------------------------------------ places


class Struct(_pheap.Place):
    """A struct where it lies in a heap.  Its class has the fields; see pheap.struct.

    map(), copy() and assign() of the module do what the methods do, also if a field has such a name.
    """

    __slots__ = ()
    __hash__ = None
    _ctype_ = None
    _names_ = ()

    def map(self):
        """An object of ctypes on the same bytes, for use in transactions."""
        return map(self)

    def copy(self):
        """A copy, as an object of ctypes."""
        return copy(self)

    def assign(self, value):
        """Take over the bytes of another one, or of an object of ctypes."""
        assign(self, value)

    def __eq__(self, other):
        if isinstance(other, Struct) or (self._ctype_ is not None and isinstance(other, self._ctype_)):
            return type(self)._ctype_ is getattr(other, "_ctype_", type(other)) and bytes(self) == bytes(other)
        return NotImplemented

    def __repr__(self):
        try:
            values = ", ".join([f"{name}={getattr(self, name)!r}" for name in self._names_])
        except ReferenceError:
            values = "gone"
        return f"<{type(self).__name__} in a heap: {values}>"

    def __reduce_ex__(self, protocol):
        raise TypeError("a struct in a heap is pickled as a copy: copy()")


class Array(_pheap.Place):
    """An array of structs or numbers where it lies in a heap.  Slices are lists."""

    __slots__ = ()
    __hash__ = None

    def map(self):
        """An array of ctypes on the same bytes, for use in transactions."""
        return map(self)

    def copy(self):
        """A copy, as an array of ctypes."""
        return copy(self)

    def numpy(self):
        """A numpy array on the same bytes: writable in a transaction, else of one version, and for reading."""
        np = _numpy()
        dtype = _dtype(np, self._element)
        return np.ndarray(self._count, dtype, self._block, self._where())

    def __iter__(self):
        for start in range(0, len(self), 256):
            yield from self[start : start + 256]

    def __eq__(self, other):
        if isinstance(other, (Array, list, tuple, _ctypes.Array)):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other))
        return NotImplemented

    def __repr__(self):
        try:
            shown = ", ".join([repr(value) for value in self[:6]]) + (", ..." if len(self) > 6 else "")
            return f"<{type(self).__name__} in a heap of {len(self)}: {shown}>"
        except ReferenceError:
            return f"<{type(self).__name__} in a heap: gone>"

    def __reduce_ex__(self, protocol):
        raise TypeError("an array in a heap is pickled as a copy: copy(), or list()")


_abc.Sequence.register(Array)


class Ring(Array):
    """The last structs or numbers that were pushed, the oldest first, where they lie in a heap.

    A place in it is the n-th from the oldest on, also after others have come.
    """

    __slots__ = ()

    @property
    def capacity(self):
        """How many it keeps."""
        return _pheap.type_of(self._block)[2]

    def push(self, value):
        """Put one at the end; if the ring is full the oldest is gone."""
        self._push(value)

    append = push

    def pop(self):
        """Take the oldest out: a copy of it."""
        heap = self._block._heap
        with heap.transaction():
            if not len(self):
                raise IndexError("pop from an empty ring")
            first = self[0]
            if isinstance(first, _pheap.Place):
                first = copy(first)
            self._drop()
        return first

    def numpy(self):
        """Its elements do not lie in their order: numpy.frombuffer(bytes(ring), dtype) makes an array of a copy."""
        raise TypeError(Ring.numpy.__doc__)


def _dtype(np, field):
    if field.code == "S":
        parts = [vars(field.make)[name] for name in field.make._names_]
        for part in parts:
            if part.bit_count:
                raise TypeError(f"numpy has no bit fields: {part.name}")
        return np.dtype(
            {
                "names": [part.name for part in parts],
                "formats": [_dtype(np, part) for part in parts],
                "offsets": [part.offset for part in parts],
                "itemsize": field.size,
            }
        )
    if field.code == "A":
        return np.dtype((_dtype(np, field.inner), (field.count,)))
    return np.dtype({"s": "S", "c": "S", "?": "?"}.get(field.code, "<" + field.code) + ("" if field.code == "?" else str(field.size)))


def _ctype(place):
    if isinstance(place, Struct):
        ctype = place._ctype_
    else:
        ctype = place._element.ctype
        ctype = ctype * len(place) if ctype else None
    if ctype is None:
        raise TypeError("the type of this struct is known from the heap only: give the class of ctypes to Store.get()")
    return ctype


def map(place):
    """An object of ctypes on the same bytes, for use in transactions: see pheap.Block for its rules."""
    ctype = _ctype(place)
    if isinstance(place, Ring):
        raise TypeError("the elements of a ring do not lie in their order: map one of them, or copy()")
    try:
        return ctype.from_buffer(place._block, place._where())
    except TypeError:
        # ctypes has no objects that are read-only.
        raise BufferError(
            "a struct is mapped in a transaction of this thread: use with heap.transaction(), or copy()"
        ) from None


def copy(place):
    """A copy, as an object of ctypes."""
    return _ctype(place).from_buffer_copy(bytes(place))


def assign(place, value):
    """Give a struct all the bytes of another one, or of an object of ctypes."""
    type(place)._whole_.__set__(place, value)


# ----------------------------------------------------------------------------------------------------------- classes


def _packer(ctype, size):
    """What makes bytes of a struct or array that is assigned."""

    def pack(value):
        if isinstance(value, _pheap.Place):
            if ctype is not None and isinstance(value, Struct) and value._ctype_ is not ctype:
                raise TypeError(f"{type(value).__name__} is not {ctype.__name__}")
            value = bytes(value)
        elif ctype is not None and not isinstance(value, ctype):
            if not isinstance(value, (tuple, list)):
                raise TypeError(f"{ctype.__name__} expected, not {type(value).__name__}")
            value = ctype(*value)
        if not isinstance(value, (bytes, _SimpleType, _ctypes.Structure, _ctypes.Union, _ctypes.Array)) or len(bytes(value)) != size:
            raise TypeError(f"{size} bytes, or a struct of that size, expected, not {type(value).__name__}")
        return bytes(value)

    return pack


_classes = {}  # of types of ctypes


def _class_of(ctype):
    """The class of the places of a type."""
    cls = _classes.get(ctype)
    if cls is None:
        size = _ctypes.sizeof(ctype)
        if _is(ctype, (_ctypes.Structure, _ctypes.Union)):
            _layout(ctype)
            fields = [
                _field(name, kind, offset, bit_first, bit_count)
                for name, kind, offset, bit_first, bit_count in _declared(ctype)
            ]
            hidden = {name for base in ctype.__mro__ for name in base.__dict__.get("_anonymous_", ())}
            fields += [
                _field(inner[0], inner[1], offset + inner[2], *inner[3:])
                for name, kind, offset, *_ in _declared(ctype)
                if name in hidden
                for inner in _declared(kind)
            ]
        else:
            fields = [_field("value", ctype, 0)]
        cls = _classes[ctype] = _make_class(ctype.__name__, size, fields, ctype)
    return cls


def _make_class(name, size, fields, ctype):
    members = {field.name: field for field in fields}
    members.update(__slots__=(), __module__="pheap.struct", _ctype_=ctype, _names_=tuple(members))
    cls = type(name, (Struct,), members)
    cls._whole_ = _pheap.Field("struct", ctype, "S", 0, size, 0, cls, pack=_packer(ctype, size))
    return cls


def _field(name, ctype, offset=0, bit_first=0, bit_count=0):
    """The field of a type of ctypes."""
    size = _ctypes.sizeof(ctype)
    if _is(ctype, _ctypes.Array):
        if ctype._type_ is _ctypes.c_char:
            return _pheap.Field(name, ctype, "s", offset, size)
        inner = _field(name, ctype._type_)
        return _pheap.Field(name, ctype, "A", offset, size, ctype._length_, Array, inner, pack=_packer(ctype, size))
    if _is(ctype, (_ctypes.Structure, _ctypes.Union)):
        return _pheap.Field(name, ctype, "S", offset, size, 0, _class_of(ctype), pack=_packer(ctype, size))
    letter = _LETTERS[_check(ctype, name)]
    return _pheap.Field(name, ctype, letter, offset, size, bit_first=bit_first, bit_count=bit_count)


def _field_shown(block, entry):
    """The same from what a heap tells of it."""
    name, kind, size, offset, count, bit_first, bit_count, number = entry
    if kind == _STRUCT:
        cls = _class_shown(block, number)
        field = _pheap.Field(name, None, "S", offset if count == 1 else 0, size, 0, cls, pack=_packer(None, size))
    elif kind == _CHAR and count > 1:
        return _pheap.Field(name, None, "s", offset, count)
    elif kind not in _LETTERS:
        raise WrongType(f"the field {name!r} is a value: this is a record, not a plain struct")
    else:
        where = offset if count == 1 else 0
        field = _pheap.Field(name, None, _LETTERS[kind], where, size, bit_first=bit_first, bit_count=bit_count)
    if count == 1:
        return field
    pack = _packer(None, size * count)
    return _pheap.Field(name, None, "A", offset, size * count, count, Array, field, pack=pack)


def _class_shown(block, number):
    name, _, size, fields = _pheap.show_type(block, number)
    return _make_class(name, size, [_field_shown(block, entry) for entry in fields], None)


def _element_shown(block, number):
    """The field of the elements of an array, whose type is known from the heap only."""
    name, version, size, fields = _pheap.show_type(block, number)
    if version == 0 and len(fields) == 1 and fields[0][0] == "value" and fields[0][2] * fields[0][4] == size:
        return _field_shown(block, fields[0])
    return _class_shown(block, number)._whole_


# ------------------------------------------------------------------------------------------------------------- store


class Store(_abc.Mapping):
    """Structs, arrays and rings by keys: bytes, str, int, and whatever else a dict of a heap takes.

    Store(heap, name) keeps its index in the dict heap.root[name], which is made with the first struct; Store(snapshot, name)
    is for reading.
    """

    def __init__(self, heap, name="structs"):
        if not isinstance(heap, (_pheap.Heap, _pheap.Snapshot)):
            raise TypeError(f"a heap or a snapshot is expected, not {type(heap).__name__}")
        self._heap, self._name = heap, name
        self._known = {}  # number of a type -> its ctypes, or the field of its elements

    def _index(self):
        return self._heap.root.get(self._name)

    def new(self, key, ctype):
        """Make a struct of a type of ctypes, all zeros: Point, Point * 100, RingOf(Point, 100), or c_int, c_double * 4...

        KeyError if the key is there.  In a transaction it is part of that.
        """
        element, count, kind = _taken_apart(ctype)
        field = _field("value", element)
        heap = self._heap
        if not isinstance(heap, _pheap.Heap):
            raise TypeError("a snapshot is for reading")
        with heap.transaction():
            index = heap.root.get(self._name)
            if index is None:
                heap.root[self._name] = {}
                index = heap.root[self._name]
            if key in index:
                raise KeyError(f"{key!r} is there already")
            number = _register(heap, element)
            block = _pheap.new_struct(heap, kind, number, count)
            index[key] = block
        self._known[number] = element
        return _place(block, kind, number, count, element, field)

    def get(self, key, ctype=None, default=None):
        """The struct, array or ring of a key.  With a type of ctypes: WrongType if it is of another one."""
        index = self._index()
        block = None if index is None else _pheap.get_struct(index, key)
        if block is None:
            return default
        kind, number, count = _pheap.type_of(block)
        if ctype is not None:
            element, wanted, wanted_kind = _taken_apart(ctype)
            if wanted_kind != kind or (wanted != count and kind != _pheap.RECORD):
                have = {_pheap.RECORD: "one struct", _pheap.ARRAY: f"an array of {count}", _pheap.RING: f"a ring of {count}"}
                raise WrongType(f"{key!r} is {have[kind]}, not {ctype!r}")
            if self._known.get(number) is not element:
                _compare(block, number, element)
                self._known[number] = element
        known = self._known.get(number)
        if known is None:
            known = self._known[number] = _element_shown(block, number)
        field = known if isinstance(known, _pheap.Field) else _field("value", known)
        return _place(block, kind, number, count, known, field)

    def __getitem__(self, key):
        place = self.get(key)
        if place is None:
            raise KeyError(key)
        return place

    def __setitem__(self, key, value):
        """Store an object of ctypes: in the bytes that the key has, or, if it is new or of another type, in new ones."""
        ctype = type(value)
        with self._heap.transaction():
            try:
                place = self.get(key, ctype)
            except WrongType:
                del self[key]
                place = None
            if place is None:
                place = self.new(key, ctype)
            if isinstance(place, Struct):
                assign(place, value)
            else:
                place[:] = list(value)

    def map(self, key, ctype=None):
        """map() of what the key has: an object of ctypes in place."""
        place = self.get(key, ctype)
        if place is None:
            raise KeyError(key)
        return map(place)

    def __delitem__(self, key):
        """Remove a struct and give its space back.  Places in it are gone; BufferError while there are views of it."""
        index = self._index()
        if index is None or not _pheap.delete_struct(index, key):
            raise KeyError(key)

    def __contains__(self, key):
        index = self._index()
        return index is not None and key in index

    def __len__(self):
        index = self._index()
        return 0 if index is None else len(index)

    def __iter__(self):
        index = self._index()
        return iter(()) if index is None else iter(index)

    def __repr__(self):
        return f"<pheap.struct.Store {self._name!r} of {self._heap!r}>"


def _taken_apart(ctype):
    """The type of the elements, their number, and the kind of value."""
    if isinstance(ctype, RingOf):
        if not isinstance(ctype.count, int) or ctype.count < 1:
            raise ValueError("a ring has 1 place or more")
        return ctype.ctype, ctype.count, _pheap.RING
    if _is(ctype, _ctypes.Array) and ctype._type_ is not _ctypes.c_char:
        return ctype._type_, ctype._length_, _pheap.ARRAY
    return ctype, 0, _pheap.RECORD


def _place(block, kind, number, count, known, field):
    if kind == _pheap.RECORD:
        cls = field.make if field.code == "S" else _class_of(known) if known is not field else _wrapped(field)
        return cls(block, number, cls._whole_)
    if kind == _pheap.RING:
        return Ring(block, number, _pheap.Field("ring", None, "A", 0, 0, 0, Ring, field, pack=_packer(None, 0)))
    size = field.size * count
    return Array(block, number, _pheap.Field("array", None, "A", 0, size, count, Array, field, pack=_packer(None, size)))


def _wrapped(field):
    """The class of a struct that is one number, which is known from the heap only."""
    return _make_class(field.name, field.size, [field], None)
