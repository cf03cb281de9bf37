# SPDX-License-Identifier: Apache-2.0
"""Stands where the engine stands inside the Debian folder, and hands its commands to the real one outside, as lines of
`asked.jsonl` beside it. The real engine answers in the same folders, so nothing need come back through here."""

import json
import sys
from pathlib import Path

asked = Path(__file__).resolve().parents[1] / "asked.jsonl"
with asked.open("a", encoding="utf-8", buffering=1) as file:
    file.write(json.dumps({"op": "serve", "state": sys.argv[sys.argv.index("--state") + 1]}) + "\n")
    for line in sys.stdin:
        file.write(line)
    file.write('{"op": "quit"}\n')
