# SPDX-License-Identifier: Apache-2.0
"""One Hypothesis profile for all tests: no deadline on a shared machine, the same examples in every run."""

try:
    from hypothesis import settings
except ImportError:  # Blender's own Python runs tests/blender without it
    pass
else:
    settings.register_profile("tweed", deadline=None, max_examples=60, derandomize=True, database=None)
    settings.load_profile("tweed")
