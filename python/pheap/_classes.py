# SPDX-License-Identifier: MIT
"""Persistent classes: what their fields are, which class goes by a name, and how objects come to newer layouts."""

import _weakref  # weakref itself takes half a millisecond to import
import sys

from . import _pheap
from ._errors import BY_STATUS
from ._plain import plain
from ._repr import guarded

_SIGNED, _UNSIGNED, _FLOAT, _BOOL, _CHAR, _VALUE, _STRUCT = range(1, 8)
_WRONG_TYPE = 34
_OTHERS = "__dict__"
_OWN = ("_v_", "__", "_abc_")  # names of attributes that are not stored
_NONE = NotImplemented  # "there is none", where None is a value

_pheap.set_classes(sys.modules[__name__])

_classes = {}  # name of the type -> a weak reference to the class that was defined last
_missing = {}  # (name, version, fields) -> the class of objects whose class is not there


class FieldType:
    """A type of fixed-size fields, for annotations: see i8, u8, f32 and so on, and chars()."""

    __slots__ = ("_name", "_kind", "_size", "_count")

    def __init__(self, name, kind, size, count=1):
        self._name, self._kind, self._size, self._count = name, kind, size, count

    def __repr__(self):
        return f"pheap.{self._name}"

    def __or__(self, other):  # "i32 | None" is a value of any type
        return object

    __ror__ = __or__


i8, i16, i32, i64 = (FieldType(f"i{8 * n}", _SIGNED, n) for n in (1, 2, 4, 8))
u8, u16, u32, u64 = (FieldType(f"u{8 * n}", _UNSIGNED, n) for n in (1, 2, 4, 8))
f32, f64 = FieldType("f32", _FLOAT, 4), FieldType("f64", _FLOAT, 8)


def chars(length):
    """A type for fields that are str of up to `length` bytes of UTF-8, in the struct itself: char[length] in C."""
    if not 1 <= length <= 65536:
        raise ValueError("a field has 1 to 65536 chars")
    return FieldType(f"chars({length})", _CHAR, 1, length)


_SCALARS = {int: i64, float: f64, bool: FieldType("bool", _BOOL, 1)}


def _field_of(name, annotation, namespace):
    """A field as the C code knows it, (name, kind, size, count, 0, 0); None: the annotation says that it is none."""
    if isinstance(annotation, str):  # from __future__ import annotations
        try:
            annotation = eval(annotation, namespace[0], namespace[1])
        except Exception:
            if annotation.split("[")[0].endswith("ClassVar"):
                return None
            annotation = object
    if str(getattr(annotation, "__origin__", annotation)) == "typing.ClassVar":
        return None
    try:
        scalar = _SCALARS.get(annotation, annotation)
    except TypeError:
        scalar = None  # unhashable
    if isinstance(scalar, FieldType):
        return name, scalar._kind, scalar._size, scalar._count, 0, 0
    return name, _VALUE, 8, 1, 0, 0


_MUTABLE = (list, dict, set)


class _Factory:
    """A default that is made for each object."""

    __slots__ = ("make",)

    def __init__(self, make):
        self.make = make


def _default_of(value):
    """What stands in the class body, as _Factory, or a value that all objects may share."""
    factory = getattr(value, "default_factory", None)
    if factory is not None and type(value).__module__ == "dataclasses":
        if callable(factory):
            return _Factory(factory)
        value = value.default
        if type(value).__name__ == "_MISSING_TYPE":
            return _NONE
    if type(value) in _MUTABLE or (isinstance(value, Persistent) and not value._stored):
        from copy import deepcopy

        return _Factory(lambda: deepcopy(value))
    return value


def begin(defaults):
    """The attributes that a new object begins with."""
    return {name: value.make() if type(value) is _Factory else value for name, value in defaults.items()}


def fresh(obj, name, default, writable):
    """The default of a field that a stored object (or None) has not.  It is kept: what is appended must not be lost."""
    value = default.make()
    if obj is None or not writable:
        return value
    getattr(type(obj), name).__set__(obj, value)
    return getattr(obj, name)


class Persistent(_pheap.Record):
    """Base of the classes whose objects live in heaps.

        class Person(pheap.Persistent):
            name: str
            age: int = 0
            tags: list = []
            _v_cache = None             # not stored: _v_ names belong to the object in this process

            def birthday(self):
                self.age += 1

        heap.root["joe"] = Person("Joe", 27)

    Annotated names are fields.  int (64 bits), float, bool, and i8, u8 ... f64 and chars(n) of this package lie in the
    object's struct, always have a value, 0 if no other is given, and take only such values: OverflowError, TypeError.
    All others hold any value that a heap can store, and are unset until they are given one.  A default that is a list,
    dict or set is copied for each object.  Names that are not annotated are attributes, too, in a dict of the object; a
    value of the class body is what those have that have no other.  Names that begin with _v_ or __ are never stored.

    An object is an ordinary one until it is stored, with all that it refers to; then it is the one in the heap.
    Equality is identity, unless the class says otherwise.  copy(), pickle and plain() give a detached one.

    Objects are found by the name of their class, module and all, which is imported if need be.  With

        class Person(pheap.Persistent, name="people.Person", version=2, others=False): ...

    that is another name, the layout has a number, which else the heap counts, and objects have their fields only, without
    room for other attributes: the struct of a C program.

    If the fields have changed since an object was stored, it is read as it is: fields that were added have their default,
    those that were removed are hidden.  It gets the new fields when it is changed, or by heap.migrate(Person).  A function
    __pheap_migrate__(cls, version, fields) can say what becomes of the old ones: it gets a dict of all attributes, and
    returns that of the new.
    """

    __pheap_shape__ = None
    __pheap_defaults__ = {}
    __pheap_fields__ = ()
    __pheap_class_values__ = frozenset()

    def __init_subclass__(cls, *, name=None, version=0, others=True, **kwargs):
        super().__init_subclass__(**kwargs)
        if name is None:
            name = f"{cls.__module__}.{cls.__qualname__}"
        if version != 0 and not 1 <= version < 2**32:
            raise ValueError("a version is a number from 1 on")
        own = _own_fields(cls)
        fields, defaults, hidden = {}, {}, set()
        for base in reversed(cls.__mro__[1:]):
            fields.update({field[0]: field for field in base.__dict__.get("__pheap_own__", ())})
            defaults.update(base.__dict__.get("__pheap_defaults__", {}))
        for field in own:
            fields[field[0]] = field
            defaults.pop(field[0], None)
        for field in fields:
            if field in cls.__dict__:  # also a new default of a field of a base
                if field not in cls.__annotations__ and hasattr(type(cls.__dict__[field]), "__get__"):
                    hidden.add(field)  # by a property or a method
                    continue
                defaults.pop(field, None)
                default = _default_of(cls.__dict__[field])
                if default is not _NONE:
                    defaults[field] = default
        hook = cls.__dict__.get("__pheap_migrate__")
        if hook is not None and not isinstance(hook, (classmethod, staticmethod)):
            cls.__pheap_migrate__ = classmethod(hook)
        cls.__pheap_own__ = tuple(own)
        cls.__pheap_fields__ = tuple(fields)
        cls.__match_args__ = cls.__pheap_fields__
        cls.__pheap_type__ = version, (*fields.values(), (_OTHERS, _VALUE, 8, 1, 0, 0)) if others else tuple(fields.values())
        cls.__pheap_shape__ = _pheap.Shape(
            name, *cls.__pheap_type__, getattr(cls, "__pheap_migrate__", None) is not None
        )
        values = {
            name
            for name, value in cls.__dict__.items()
            if name not in fields and not name.startswith(_OWN) and not hasattr(type(value), "__get__")
            and name not in cls.__annotations__
        }
        for value in values:
            type.__setattr__(cls, value, _pheap.Slot((value, 0, 8, 1, 0, 0), False, cls.__dict__[value]))
        cls.__pheap_class_values__ = frozenset().union(
            values, *(base.__dict__.get("__pheap_class_values__", ()) for base in cls.__mro__[1:])
        ) - {name for name in cls.__dict__ if name not in values}
        for field in fields.values():
            if field[0] in hidden:
                continue
            default = defaults.get(field[0], _NONE)
            type.__setattr__(cls, field[0], _pheap.Slot(field, type(default) is _Factory, default))
        cls.__pheap_defaults__ = {}
        sample = cls.__new__(cls)
        for field, default in defaults.items():
            if type(default) is not _Factory:  # of the right type, and as it would be read
                sample._set(field, default)
                default = sample._state()[field]
            cls.__pheap_defaults__[field] = default
        _classes[name] = _weakref.ref(cls)

    def __init__(self, *args, **kwargs):
        """The fields in their order, those of bases first, or by name."""
        names = self.__pheap_fields__
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__}() takes {len(names)} values, but {len(args)} were given")
        for name, value in zip(names, args):
            if name in kwargs:
                raise TypeError(f"{type(self).__name__}() got two values for {name!r}")
            setattr(self, name, value)
        for name, value in kwargs.items():
            if name not in names:
                raise TypeError(f"{type(self).__name__}() has no field {name!r}")
            setattr(self, name, value)

    def plain(self):
        """A detached copy, with plain values all the way down."""
        return plain(self, {})

    def __copy__(self):
        return _build(type(self), attributes(self))

    def __deepcopy__(self, memo):
        return _deepcopied(self, memo)

    def __reduce_ex__(self, protocol):
        return _begin, (type(self),), attributes(self)

    def __setstate__(self, state):
        for name, value in state.items():
            self._set(name, value)

    def __dir__(self):
        return sorted({*object.__dir__(self), *attributes(self)})

    @guarded("...")
    def __repr__(self):
        inside = ", ".join(f"{name}={value!r}" for name, value in attributes(self).items())
        return f"{type(self).__qualname__}({inside})"


def _own_fields(cls):
    module = sys.modules.get(cls.__module__)
    namespace = (vars(module) if module else {}), dict(vars(cls))
    fields = []
    for name, annotation in cls.__annotations__.items():
        if name.startswith(_OWN):
            continue
        field = _field_of(name, annotation, namespace)
        if field is not None:
            fields.append(field)
    return fields


def _begin(cls):
    return cls.__new__(cls)


def _build(cls, state):
    copy = cls.__new__(cls)
    copy.__setstate__(state)
    return copy


def _deepcopied(obj, memo):
    """As deepcopy() does it, but of what is in a heap a plain copy."""
    from copy import deepcopy

    copy = memo[id(obj)] = type(obj).__new__(type(obj))
    copy.__setstate__({name: deepcopy(value, memo) for name, value in attributes(obj).items()})
    return copy


def attributes(obj):
    """All attributes of an object, as its class has them, but the volatile ones."""
    layout = obj._layout()
    if layout is not None and not layout[1]:
        return attributes(_successor(obj))
    state = obj._state()
    others = obj._others()
    if others is not None:
        state.update(others.items())
    ordered = {}
    for name in type(obj).__pheap_fields__:
        try:
            ordered[name] = state.pop(name) if name in state else getattr(obj, name)
        except AttributeError:
            pass  # not set
    ordered.update(state)
    return ordered


def refusal(way):
    """Why the last of these cannot be stored: the others are what it was found in, from the outside."""
    text = f"a heap cannot store objects of type {type(way[-1])!r}"
    if len(way) > 1:
        text += ", at " + "".join(_step(outer, inner) for outer, inner in zip(way, way[1:]))
    return f"{text}; {_remedy(way[-1])}"


def _remedy(value):
    for kind in (dict, list, set, frozenset, tuple, str, bytes, int, float):
        if isinstance(value, kind):
            return f"the class would be lost: store {kind.__name__}(...), or pheap.Pickled(...)"
    if any(base.__module__ == "_ctypes" for base in type(value).__mro__):
        return "what is of ctypes is kept by pheap.struct"
    if isinstance(value, _pheap.Slot):
        return "a persistent class needs no @dataclass: it has __init__() and repr() already"
    if isinstance(value, range) or hasattr(type(value), "__next__"):
        return "store list(...) of it"
    if isinstance(value, (bytearray, memoryview)):
        return "store bytes(...), or a block of heap.alloc()"
    return "derive its class from pheap.Persistent, or store pheap.Pickled(...) if it can be pickled"


def _step(outer, inner):
    if isinstance(outer, dict):
        for key, value in list(outer.items()):
            if value is inner:
                return f"[{key!r}]"
        return ".<key>"
    if isinstance(outer, (list, tuple)):
        for index, value in enumerate(outer):
            if value is inner:
                return f"[{index}]"
    if isinstance(outer, Persistent):
        for name, value in outer._state().items():
            if value is inner:
                return f".{name}"
        return ""  # in the dict of the other attributes, which comes next
    return ".<element>"


# ---------------------------------------------------------------------------------------------------- finding classes


def find_class(name, version, fields):
    """The class for a type of a heap, or a placeholder."""
    cls = _defined(name)
    if cls is None:
        cls = _import(name)
    if cls is None:
        key = name, version, tuple(fields)
        cls = _missing.get(key)
        if cls is None:
            cls = _missing[key] = _placeholder(*key)
    return cls


def _defined(name):
    known = _classes.get(name)
    return None if known is None else known()


def _import(name):
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        try:
            __import__(module)
        except ImportError:
            continue
        cls = _defined(name)
        if cls is not None:
            return cls
    return None


class Missing(Persistent, name="pheap.Missing"):
    """An object whose class is not there: its attributes can be read, and it can be stored elsewhere as it is."""

    def __setattr__(self, name, value):
        if name.startswith("_v_"):
            return super().__setattr__(name, value)
        raise TypeError(f"{self!r} cannot be changed: its class is missing")

    __delattr__ = lambda self, name: self.__setattr__(name, None)  # noqa: E731

    @guarded("...")
    def __repr__(self):
        inside = ", ".join(f"{name}={value!r}" for name, value in attributes(self).items())
        return f"<missing class {type(self).__pheap_shape__.name}: {inside}>"

    def __reduce_ex__(self, protocol):
        shape = type(self).__pheap_shape__
        return _begin_missing, (shape.name, *type(self).__pheap_type__), attributes(self)


def _placeholder(name, version, fields):
    # A subclass by the back door: it must not be what the name stands for.
    title = name.rpartition(".")[2] or name
    cls = type.__new__(type, title, (Missing,), {"__slots__": ()}, name=f"pheap.Missing {name}")
    own = tuple(field for field in fields if field[0] != _OTHERS)
    cls.__module__, cls.__pheap_own__, cls.__pheap_type__ = "pheap", own, (version, fields)
    cls.__pheap_fields__ = tuple(field[0] for field in own)
    cls.__pheap_shape__ = _pheap.Shape(name, version, fields, False)
    for field in own:
        type.__setattr__(cls, field[0], _pheap.Slot(field, False, _NONE))
    return cls


def _begin_missing(name, version, fields):
    return _begin(find_class(name, version, list(fields)))


# ---------------------------------------------------------------------------------------------------- older layouts


def _successor(obj):
    """A detached object with the attributes that a stored one of another layout has by its class."""
    cls = type(obj)
    old = obj._state()
    others = obj._others()
    if others is not None:
        old.update(others.items())
    version = obj._layout()[0]
    hook = getattr(cls, "__pheap_migrate__", None)
    if hook is not None:
        values = hook(version, dict(old))
        if not isinstance(values, dict):
            raise TypeError(f"{cls.__qualname__}.__pheap_migrate__() must return a dict, not {type(values).__name__}")
    else:
        stays = {*cls.__pheap_fields__, *(others.keys() if others is not None else ())}
        values = {name: value for name, value in old.items() if name in stays}
    new = cls.__new__(cls)
    for name, value in values.items():
        try:
            new._set(name, value)
        except (TypeError, OverflowError) as error:
            raise type(error)(
                f"{cls.__qualname__}, from version {version} in the heap: {error}; "
                f"__pheap_migrate__() can say what becomes of it"
            ) from error
    return new


def read_old(obj, name):
    """An attribute of an object of another layout."""
    return getattr(_successor(obj), name)


def move(obj, name, value):
    """Change an object of another layout (NotImplemented: delete the attribute), which gets that of its class."""
    if obj._layout()[2]:  # somebody knows more of it than this program: nothing may be lost
        slot = type(obj).__dict__.get(name)
        if isinstance(slot, _pheap.Slot) and slot._set_in_place(obj, value):
            return
        raise BY_STATUS[_WRONG_TYPE](
            f"{type(obj).__qualname__}: the heap has a newer version of this class, so {name!r} cannot be set; "
            "update the program, or call heap.migrate()"
        )
    new = _successor(obj)
    if value is NotImplemented:
        delattr(new, name)
    else:
        new._set(name, value)
    obj._become(new)


def migrate(heap, cls):
    """Give all objects of a class, and of its subclasses, that the root leads to the layout of their class.

    Each is a transaction of its own, unless one is open.  Returns how many it were.  An exception of the hook ends it;
    what was done is kept.
    """
    if not (isinstance(cls, type) and issubclass(cls, Persistent)):
        raise TypeError("a class of persistent objects")
    seen, todo, count = {}, [heap.root], 0
    while todo:
        value = todo.pop()
        if isinstance(value, tuple):
            todo.extend(value)
        if not isinstance(value, _pheap.Proxy) or id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, Persistent):
            if isinstance(value, cls) and not value._layout()[1]:
                value._become(_successor(value))
                count += 1
            todo.extend(value._state().values())
            others = value._others()
            if others is not None:
                todo.append(others)
        elif hasattr(value, "items"):
            for key, part in list(value.items()):
                todo.append(key)
                todo.append(part)
        else:
            todo.extend(value)
    return count


# ---------------------------------------------------------------------------------------------------------- pickles


class Pickled(Persistent, name="pheap.Pickled", version=1):
    """Any object that can be pickled, stored as a pickle: Pickled(x), and load() makes another x.

    A heap that was opened with pickle=True stores objects of foreign types in this way, and gives what load() makes.
    Loading a pickle can run any code: do it only with heaps that come from people you trust.
    """

    data: bytes

    def __init__(self, obj):
        from pickle import dumps

        self.data = dumps(obj)

    def load(self):
        """Make the object."""
        from pickle import loads

        return loads(self.data)

    @guarded("...")
    def __repr__(self):
        return f"pheap.Pickled(<{len(self.data)} bytes>)"
