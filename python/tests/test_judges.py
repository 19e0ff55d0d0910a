# SPDX-License-Identifier: MIT
"""The tests that CPython has for its own dict, list, set and deque, on Dict, List, Set, Queue and OrderedMap.

Would catch: any difference in the surface.  What differs for a reason is in EXCEPT of each class, with the reason; such a case
must fail, else it does not belong there.  run_tests.py counts both.
"""

import ast
import importlib.util
import tempfile
import types
import unittest
from pathlib import Path

import pheap

try:
    from test import list_tests, mapping_tests, seq_tests, test_deque, test_ordered_dict, test_set, test_userdict, test_userlist
except ImportError as error:
    raise unittest.SkipTest(f"CPython's tests are missing (Debian: libpython3.11-testsuite): {error}")

_IDENTITY = "stores objects of a class that the test makes, by identity; a heap has values.  test_needles looks for such"
_DEPTH = "expects RecursionError; repr() of ours ends at a depth, so that it can be called on anything"
_AGAIN = "expects that an element is the same object each time it is read; str, int and tuple are made anew from the heap"
_COPIED = "expects that a list that was stored is the one that is read; it was copied into the heap"
_ORDERED = "asks for what OrderedDict has and dict has not"
_MEMORY = "tells how CPython's own object lies in memory"
_UNHEARD = "what UserList does, and list does not"
_CLASS = "expects the class of a subclass; what is read, copied or pickled has the class that its kind has"


def setUpModule():
    global _directory, _heap
    _directory = tempfile.TemporaryDirectory(prefix="pheap-")
    _heap = pheap.open(Path(_directory.name, "a.heap"), durable=False)


def tearDownModule():
    _heap.close()
    _directory.cleanup()


class Judge:
    """Each case runs in one transaction, in which its class makes containers with self.bound(), and which is aborted."""

    EXCEPT = {}

    def __init__(self, name="runTest"):
        super().__init__(name)
        self.excepted = name in self.EXCEPT
        if self.excepted:
            self.__unittest_expecting_failure__ = True

    def setUp(self):
        self.heap = _heap
        self.heap.transaction().__enter__()
        self.addCleanup(self.heap._abort)
        super().setUp()

    def bound(self, base):
        """The class with the heap as its first argument."""
        heap = self.heap

        class Bound(base):
            __slots__ = ()

            def __new__(cls, /, *args, **kwargs):
                return super().__new__(cls, heap)

            def __init__(self, /, *args, **kwargs):
                super().__init__(heap, *args, **kwargs)

            if hasattr(base, "fromkeys"):

                @classmethod
                def fromkeys(cls, keys, value=None):
                    made = cls()
                    for key in keys:
                        made[key] = value
                    return made

        return Bound


def global_is(module, name, value, test):
    """Within a test, a name in one of CPython's modules stands for our class."""
    before = getattr(module, name)
    test.addCleanup(setattr, module, name, before)
    setattr(module, name, value)


# ---------------------------------------------------------------------------------------------------------------- dict


class DictJudge(Judge, mapping_tests.TestHashMappingProtocol):
    """mapping_tests on Dict."""

    EXCEPT = {
        "test_copy": _CLASS,
        "test_eq": _IDENTITY,
        "test_getitem": _IDENTITY,
        "test_pop": _IDENTITY,
        "test_repr": _IDENTITY,
        "test_repr_deep": _DEPTH,
        "test_setdefault": _IDENTITY,
    }

    @property
    def type2test(self):
        return self.bound(pheap.Dict)


class OrderedMapJudge(Judge, mapping_tests.BasicTestMappingProtocol):
    """mapping_tests on OrderedMap, whose keys are sorted."""

    EXCEPT = {"test_popitem": "popitem() of an OrderedMap, as of an OrderedDict, takes an argument"}

    @property
    def type2test(self):
        return self.bound(pheap.OrderedMap)


class UserDictJudge(Judge, test_userdict.UserDictTest):
    """test_userdict on Dict."""

    EXCEPT = DictJudge.EXCEPT

    def setUp(self):
        super().setUp()
        global_is(test_userdict.collections, "UserDict", self.bound(pheap.Dict), self)

    @property
    def type2test(self):
        return self.bound(pheap.Dict)


# ---------------------------------------------------------------------------------------------------------------- list


class ListJudge(Judge, list_tests.CommonTest):
    """list_tests on List."""

    EXCEPT = {
        "test_contains_fake": _IDENTITY,
        "test_contains_order": _IDENTITY,
        "test_count": _IDENTITY,
        "test_index": _IDENTITY,
        "test_remove": _IDENTITY,
        "test_repr_deep": _DEPTH,
    }

    @property
    def type2test(self):
        return self.bound(pheap.List)


class UserListJudge(Judge, test_userlist.UserListTest):
    """test_userlist on List."""

    EXCEPT = ListJudge.EXCEPT | {
        "test_add_specials": _UNHEARD,
        "test_getitemoverwriteiter": _UNHEARD,
        "test_radd_specials": _UNHEARD,
        "test_slice_type": _CLASS,
        "test_userlist_copy": _CLASS,
    }

    def setUp(self):
        super().setUp()
        global_is(test_userlist, "UserList", self.bound(pheap.List), self)

    @property
    def type2test(self):
        return self.bound(pheap.List)


# ----------------------------------------------------------------------------------------------------------------- set


class SetJudge(Judge, test_set.TestSet):
    """test_set.TestSet on Set; results are plain sets."""

    EXCEPT = {
        "test_badcmp": _IDENTITY,
        "test_cyclical_repr": _IDENTITY,
        "test_deepcopy": _IDENTITY,
        "test_do_not_rehash_dict_keys": _IDENTITY,
        "test_pickling": _CLASS,
    }
    basetype = set

    @property
    def thetype(self):
        return self.bound(pheap.Set)


def set_judges():
    """The other classes of test_set, which make their sets with set(), as judges of Set."""
    names = [
        "TestBasicOpsEmpty",
        "TestBasicOpsSingleton",
        "TestBasicOpsTuple",
        "TestBasicOpsTriple",
        "TestBasicOpsString",
        "TestBasicOpsBytes",
        "TestBasicOpsMixedStringBytes",
        "TestExceptionPropagation",
        "TestSetOfSets",
        "TestBinaryOps",
        "TestUpdateOps",
        "TestMutate",
        "TestSubsetEqualEmpty",
        "TestSubsetEqualNonEmpty",
        "TestSubsetEmptyNonEmpty",
        "TestSubsetPartial",
        "TestSubsetNonOverlap",
        "TestOnlySetsNumeric",
        "TestOnlySetsDict",
        "TestOnlySetsOperator",
        "TestOnlySetsTuple",
        "TestOnlySetsString",
        "TestOnlySetsGenerator",
        "TestCopyingEmpty",
        "TestCopyingSingleton",
        "TestCopyingTriple",
        "TestCopyingTuple",
        "TestCopyingNested",
        "TestIdentities",
        "TestVariousIteratorArgs",
    ]
    again = ["TestCopyingNested", "TestCopyingSingleton", "TestCopyingTriple", "TestCopyingTuple"]
    excepted = {name: {"test_copy": _AGAIN} for name in again}

    def judge(name):
        base = getattr(test_set, name)

        def set_up(self):
            global_is(test_set, "operator", types.SimpleNamespace(add=0.5), self)  # an element that is a function
            self.heap = _heap
            global_is(test_set, "set", self.bound(pheap.Set), self)
            Judge.setUp(self)

        made = type(name + "Judge", (Judge, base), {"setUp": set_up, "EXCEPT": excepted.get(name, {})})
        made.__module__ = __name__
        return made

    return {name + "Judge": judge(name) for name in names}


test_set.set = set  # a name that can be replaced
globals().update(set_judges())


# --------------------------------------------------------------------------------------------------------------- deque


class DequeJudge(Judge, test_deque.TestBasic):
    """test_deque.TestBasic on Queue."""

    EXCEPT = {
        "test_contains": _IDENTITY,
        "test_contains_count_stop_crashes": _IDENTITY,
        "test_container_iterator": _IDENTITY,
        "test_copy": _COPIED,
        "test_count": _IDENTITY,
        "test_deepcopy": _COPIED,
        "test_index": _IDENTITY,
        "test_iterator_pickle": "expects the class of the iterator; it is pickled as one over a plain list",
        "test_remove": _IDENTITY,
        "test_reversed_new": "makes an iterator by calling its class",
        "test_sizeof": _MEMORY,
    }

    def setUp(self):
        super().setUp()
        global_is(test_deque, "deque", self.bound(pheap.Queue), self)


class DequeIteratorJudge(Judge, test_deque.TestVariousIteratorArgs):
    """test_deque.TestVariousIteratorArgs on Queue."""

    def setUp(self):
        super().setUp()
        global_is(test_deque, "deque", self.bound(pheap.Queue), self)


class DequeSequenceJudge(Judge, seq_tests.CommonTest):
    """seq_tests on Queue."""

    EXCEPT = {
        "test_contains_fake": _IDENTITY,
        "test_contains_order": _IDENTITY,
        "test_count": _IDENTITY,
        "test_getitem": "a deque has no slices; CPython's test_deque leaves this out, too",
        "test_getslice": "a deque has no slices; CPython's test_deque leaves this out, too",
        "test_index": _IDENTITY,
        "test_subscript": "a deque has no slices; CPython's test_deque leaves this out, too",
    }

    @property
    def type2test(self):
        return self.bound(pheap.Queue)


# --------------------------------------------------------------------------------------------- test_dict, test_ordered_dict


class _Displays(ast.NodeTransformer):
    """What is assigned to a name as a dict display, and calls of dict(), become Dicts of the test's heap."""

    def __init__(self):
        self.outer = None

    def visit_FunctionDef(self, node):
        if node.name.startswith("test_"):
            self.outer = node.args.args[0].arg
        return self.generic_visit(node)

    def visit_Assign(self, node):
        self.generic_visit(node)
        if isinstance(node.value, (ast.Dict, ast.DictComp)) and self.outer:
            node.value = ast.Call(ast.Name("made", ast.Load()), [node.value], [])
        return node

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "dict" and self.outer:
            node.func = ast.Name("made", ast.Load())
        return node


def _test_dict():
    spec = importlib.util.find_spec("test.test_dict")
    tree = ast.fix_missing_locations(_Displays().visit(ast.parse(Path(spec.origin).read_text())))
    module = types.ModuleType("test.test_dict")
    module.made = dict
    exec(compile(tree, spec.origin, "exec"), module.__dict__)
    return module


test_dict = _test_dict()


class TestDictJudge(Judge, test_dict.DictTest):
    """test_dict, in which displays that are assigned and calls of dict() are Dicts."""

    EXCEPT = {
        "test_bad_key": _IDENTITY,
        "test_container_iterator": _IDENTITY,
        "test_dict_contain_use_after_free": _IDENTITY,
        "test_eq": _IDENTITY,
        "test_equal_operator_modifying_operand": _IDENTITY,
        "test_errors_in_view_containment_check": _IDENTITY,
        "test_fromkeys_operator_modifying_dict_operand": _IDENTITY,
        "test_getitem": _IDENTITY,
        "test_init_use_after_free": _IDENTITY,
        "test_merge_and_mutate": _IDENTITY,
        "test_mutating_lookup": _IDENTITY,
        "test_oob_indexing_dictiter_iternextitem": _IDENTITY,
        "test_pop": _IDENTITY,
        "test_reentrant_insertion": _IDENTITY,
        "test_repr": _IDENTITY,
        "test_resize2": _IDENTITY,
        "test_setdefault": _IDENTITY,
        "test_setdefault_atomic": _IDENTITY,
        "test_setitem_atomic_at_resize": _IDENTITY,
        "test_repr_deep": _DEPTH,
        "test_track_dynamic": _MEMORY,
        "test_str_nonstr": "stores an object of a subclass of str, whose class would be lost",
    }

    def setUp(self):
        super().setUp()
        global_is(test_dict, "made", self.bound(pheap.Dict), self)


class OrderedDictJudge(Judge, test_ordered_dict.OrderedDictTests, unittest.TestCase):
    """test_ordered_dict on Dict, which keeps the order as a dict does."""

    EXCEPT = {
        "test_copying": _CLASS,
        "test_delitem_hash_collision": _IDENTITY,
        "test_dict_clear": "calls functions of dict on an object that is no instance of dict",
        "test_dict_delitem": "calls functions of dict on an object that is no instance of dict",
        "test_dict_pop": "calls functions of dict on an object that is no instance of dict",
        "test_dict_popitem": "calls functions of dict on an object that is no instance of dict",
        "test_dict_setdefault": "calls functions of dict on an object that is no instance of dict",
        "test_dict_setitem": "calls functions of dict on an object that is no instance of dict",
        "test_dict_update": "calls functions of dict on an object that is no instance of dict",
        "test_equality": _ORDERED,
        "test_highly_nested_subclass": _IDENTITY,
        "test_issue24347": _IDENTITY,
        "test_issue24348": _IDENTITY,
        "test_issue24667": _ORDERED,
        "test_merge_operator": _CLASS,
        "test_move_to_end": _ORDERED,
        "test_move_to_end_issue25406": _ORDERED,
        "test_override_update": "expects that __init__() does not call update() of a subclass",
        "test_pickle_recursive": _CLASS,
        "test_pop": _ORDERED,
        "test_popitem_last": _ORDERED,
        "test_reduce_not_too_fat": _CLASS,
        "test_reference_loop": _IDENTITY,
        "test_repr": _ORDERED,
        "test_repr_recursive": _ORDERED,
        "test_repr_recursive_values": "stores a view; a heap has values",
        "test_setdefault": _ORDERED,
        "test_sizeof": _MEMORY,
        "test_yaml_linkage": _CLASS,
    }

    def setUp(self):
        super().setUp()
        self.OrderedDict = self.bound(pheap.Dict)
