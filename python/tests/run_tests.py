# SPDX-License-Identifier: MIT
"""All tests; the last line is "N passed, N failed"."""

import sys
import unittest

suite = unittest.defaultTestLoader.discover(".")
result = unittest.TextTestRunner(stream=sys.stdout, buffer=True).run(suite)
for test, reason in result.skipped:
    print(f"not run: {test.id()}: {reason}")
failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
print(f"{result.testsRun - failed - len(result.skipped)} passed, {failed} failed")
sys.exit(failed > 0)
