# SPDX-License-Identifier: Apache-2.0
"""Pages of results in one file: pictures inside, no scripts, readable without a network and in print."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
p { max-width: 70rem; margin: .3rem 0; } .aside { opacity: .72; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .6rem; border-bottom: 1px solid #8884; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { vertical-align: bottom; white-space: normal; max-width: 6.5rem; font-weight: 600; }
td.best { font-weight: 700; } td.missed { color: #c0392b; }
td.error { color: #c0392b; text-align: left; white-space: normal; }
figure { margin: .5rem 0; } figure img { width: 100%; max-width: 1500px; display: block; background: #f2f2f2; }
figcaption { font-size: .85rem; margin-top: .15rem; }
"""


def jpeg(image: np.ndarray, quality: int = 86) -> bytes:
    """A picture f32[H,W,3] in 0..1 as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray((image.clip(0, 1) * 255).round().astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def strip(tiles: Sequence[np.ndarray], height: int = 192, gap: int = 4) -> np.ndarray:
    """Pictures f32[h,w,3] side by side at one height, on paper."""
    found = []
    for tile in tiles:
        width = round(tile.shape[1] * height / tile.shape[0])
        small = Image.fromarray((tile.clip(0, 1) * 255).round().astype(np.uint8)).resize(
            (width, height), Image.Resampling.LANCZOS
        )
        found += [np.asarray(small, np.float32) / 255, np.full((height, gap, 3), 0.95, np.float32)]
    return np.concatenate(found[:-1], 1)


def text(words: object) -> str:
    return html.escape(str(words))


def figure(picture: Path | bytes, caption: str) -> str:
    """A JPEG or PNG file, or its bytes, inside the page."""
    data = picture if isinstance(picture, bytes) else picture.read_bytes()
    kind = "png" if data[:4] == b"\x89PNG" else "jpeg"
    code = base64.b64encode(data).decode("ascii")
    return (f'<figure><img alt="{text(caption)}" src="data:image/{kind};base64,{code}">'
            f"<figcaption>{text(caption)}</figcaption></figure>")  # fmt: skip


def table(headings: Sequence[tuple[str, str]], rows: Iterable[Sequence[tuple[str, str]]]) -> str:
    """A table of text. headings: (word, explanation); cells: (text, class), class "" for none."""
    head = "".join(f'<th title="{text(why)}">{text(word)}</th>' for word, why in headings)
    body = "".join("<tr>" + "".join(f'<td class="{kind}">{text(words)}</td>' if kind else f"<td>{text(words)}</td>"
                                    for words, kind in row) + "</tr>" for row in rows)  # fmt: skip
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def paragraph(words: str, aside: bool = False) -> str:
    return f'<p class="aside">{text(words)}</p>' if aside else f"<p>{text(words)}</p>"


def heading(words: str) -> str:
    return f"<h2>{text(words)}</h2>"


def page(title: str, parts: Iterable[str]) -> str:
    """A whole HTML document of parts made by the functions above."""
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
            f"<body><h1>{text(title)}</h1>\n" + "\n".join(parts) + "\n</body></html>\n")  # fmt: skip
