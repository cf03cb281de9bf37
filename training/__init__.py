# SPDX-License-Identifier: Apache-2.0
"""The recipe that makes the bundled model `swatch`, from nothing but code."""
