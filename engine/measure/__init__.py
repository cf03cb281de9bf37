# SPDX-License-Identifier: Apache-2.0
"""Numbers for what is good and bad about a texture. docs/metrics.md defines each; one module per kind."""
