# SPDX-License-Identifier: MIT
"""All tests, or those that are named; the last line is "N passed, N failed"."""

import sys
import unittest


def ran_by_judges(tests):
    """How many of the tests are CPython's."""
    if isinstance(tests, unittest.TestSuite):
        return sum(map(ran_by_judges, tests))
    return hasattr(tests, "excepted")


if __name__ == "__main__":  # tests start processes that import it
    loader = unittest.defaultTestLoader
    suite = loader.loadTestsFromNames(sys.argv[1:]) if sys.argv[1:] else loader.discover(".")
    cases = ran_by_judges(suite)  # before they are run, and let go
    result = unittest.TextTestRunner(stream=sys.stdout, buffer=True).run(suite)
    for test, reason in result.skipped:
        print(f"not run: {test.id()}: {reason}")
    judges = [test for test, _ in result.expectedFailures if test.id().startswith("test_judges.")]
    print(f"CPython's own cases: {cases} run, {len(judges)} of them excepted with a reason")
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    print(f"{result.testsRun - failed - len(result.skipped)} passed, {failed} failed")
    sys.exit(failed > 0)
