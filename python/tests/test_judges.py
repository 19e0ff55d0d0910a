# SPDX-License-Identifier: MIT
"""The tests that CPython has for its own dict, list and set, on Dict, List and Set.

Would catch: any difference in the surface.  What differs for a reason is in EXCEPT of each class, with the reason.
"""

import unittest

import pheap
from support import HeapTest

try:
    from test import list_tests, mapping_tests, test_set
except ImportError as error:
    raise unittest.SkipTest(f"CPython's tests are missing (Debian: libpython3.11-testsuite): {error}")

_IDENTITY = "stores objects of a class that the test makes, by identity; a heap has values.  test_needles looks for such"
_DEPTH = "expects RecursionError; repr() of ours ends at a depth, so that it can be called on anything"
_FROZEN = "stores a frozenset, of which the format of values has no kind"


class InOneTransaction:
    """Each test has a heap and runs in one transaction, in which self.type2test() makes a container."""

    def setUp(self):
        if self._testMethodName in self.EXCEPT:
            self.skipTest(self.EXCEPT[self._testMethodName])
        super().setUp()
        self.heap.transaction().__enter__()


class DictJudge(InOneTransaction, HeapTest, mapping_tests.TestHashMappingProtocol):
    """mapping_tests on Dict."""

    EXCEPT = {
        "test_copy": "expects the class of a subclass; copy() is a plain dict, which is stored nowhere",
        "test_eq": _IDENTITY,
        "test_getitem": _IDENTITY,
        "test_pop": _IDENTITY,
        "test_repr": _IDENTITY,
        "test_repr_deep": _DEPTH,
        "test_setdefault": _IDENTITY,
    }

    @property
    def type2test(self):
        heap = self.heap

        class Bound(pheap.Dict):
            def __new__(cls, *args, **kwargs):
                return super().__new__(cls, heap)

            def __init__(self, *args, **kwargs):
                super().__init__(heap, *args, **kwargs)

            @classmethod
            def fromkeys(cls, keys, value=None):
                made = cls()
                for key in keys:
                    made[key] = value
                return made

        return Bound


class ListJudge(InOneTransaction, HeapTest, list_tests.CommonTest):
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
        heap = self.heap

        class Bound(pheap.List):
            def __new__(cls, *args, **kwargs):
                return super().__new__(cls, heap)

            def __init__(self, *args, **kwargs):
                super().__init__(heap, *args, **kwargs)

        return Bound


class SetJudge(InOneTransaction, HeapTest, test_set.TestSet):
    """test_set.TestSet on Set; results are plain sets."""

    EXCEPT = {
        "test_badcmp": _IDENTITY,
        "test_contains": _FROZEN,
        "test_cyclical_repr": _IDENTITY,
        "test_deepcopy": _IDENTITY,
        "test_discard": _FROZEN,
        "test_do_not_rehash_dict_keys": _IDENTITY,
        "test_pickling": "expects attributes of an instance of a subclass; a Set is pickled as a set",
        "test_remove": _FROZEN,
        "test_setOfFrozensets": _FROZEN,
    }
    basetype = set

    def setUp(self):
        super().setUp()
        test_set.TestSet.setUp(self)

    @property
    def thetype(self):
        heap = self.heap

        class Bound(pheap.Set):
            def __new__(cls, *args, **kwargs):
                return super().__new__(cls, heap)

            def __init__(self, *args, **kwargs):
                super().__init__(heap, *args, **kwargs)

        return Bound
