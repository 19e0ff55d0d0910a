# SPDX-License-Identifier: MIT
"""All tests, or those that are named; the last line is "N passed, N failed"."""

import sys
import unittest

loader = unittest.defaultTestLoader
suite = loader.loadTestsFromNames(sys.argv[1:]) if sys.argv[1:] else loader.discover(".")
result = unittest.TextTestRunner(stream=sys.stdout, buffer=True).run(suite)
for test, reason in result.skipped:
    print(f"not run: {test.id()}: {reason}")
failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
print(f"{result.testsRun - failed - len(result.skipped)} passed, {failed} failed")
sys.exit(failed > 0)
