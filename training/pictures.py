# SPDX-License-Identifier: Apache-2.0
"""The picture grids of the report: labelled, at most 1600 pixels wide and 400 kB."""

import unicodedata

from PIL import Image, ImageDraw, ImageFont

MOST_BYTES, QUALITY, LEAST_QUALITY = 400_000, 88, 50
LINE = 17           # pixels of a line of text
GAP = 4


def picture(image, side):
    """A square of `side` pixels from an image (3,S,S) in −1..1."""
    pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).byte().cpu().numpy()
    return Image.fromarray(pixels).resize((side, side), Image.LANCZOS)


def depth_picture(depth, side):
    return picture(depth[None].expand(3, -1, -1) * 2 - 1, side)


def plain_text(text):
    """Text that the built-in font can draw: other characters are named, "🦊" becomes "[fox face]"."""
    return "".join(c if ord(c) < 256 else f"[{unicodedata.name(c, 'unknown character').lower()}]" for c in text)


class Sheet:
    """A white page to which pictures and lines of text are put."""

    def __init__(self, width, height):
        self.page = Image.new("RGB", (width, height), "white")
        self.draw = ImageDraw.Draw(self.page)
        self.font = ImageFont.load_default(13)

    def write(self, x, y, text, room=10_000, grey=False):
        """One line, cut to `room` pixels."""
        text = plain_text(text)
        if self.draw.textlength(text, self.font) > room:
            while text and self.draw.textlength(text + "…", self.font) > room:
                text = text[:-1]
            text += "…"
        self.draw.text((x, y), text, fill="#666666" if grey else "black", font=self.font)

    def put(self, x, y, image):
        self.page.paste(image, (x, y))

    def save(self, path):
        """As JPEG, at the best quality that fits."""
        for quality in range(QUALITY, LEAST_QUALITY - 1, -4):
            self.page.save(path, quality=quality, optimize=True, subsampling=0 if quality > 80 else 2)
            if path.stat().st_size <= MOST_BYTES:
                return


def grid(path, captions, depth, images, side=184):
    """A row per caption; per shape two seeds beside each other: `images` (rows, shapes, seeds, 3, S, S)."""
    rows, shapes, seeds = images.shape[:3]
    step, block = side + LINE + 5, seeds * side + 3 * GAP
    sheet = Sheet(shapes * block, rows * step + side // 2 + LINE + 2 * GAP)
    for k in range(shapes):
        sheet.write(k * block, 1, f"shape {k + 1}" + ("" if k else ": control image; below, seed 1 and seed 2"))
        sheet.put(k * block, LINE + GAP, depth_picture(depth[k], side // 2))
    top = side // 2 + LINE + 2 * GAP
    for r, caption in enumerate(captions):
        sheet.write(0, top + r * step + 2, caption)
        for k in range(shapes):
            for n in range(seeds):
                sheet.put(k * block + n * (side + GAP), top + r * step + LINE + 3, picture(images[r, k, n], side))
    sheet.save(path)


def captioned(path, captions, notes, images, columns=6, side=256):
    """Pictures with a caption and a grey note above each."""
    rows, step = -(-len(images) // columns), side + 2 * LINE + 2 * GAP
    sheet = Sheet(columns * (side + GAP) - GAP, rows * step)
    for i, image in enumerate(images):
        x, y = i % columns * (side + GAP), i // columns * step
        sheet.write(x + 2, y + 2, captions[i], side - 4)
        sheet.write(x + 2, y + LINE, notes[i], side - 4, grey=True)
        sheet.put(x, y + 2 * LINE + GAP, picture(image, side))
    sheet.save(path)


def pairs(path, captions, made, truth, columns=8, side=96):
    """Generated beside true, a pair per caption."""
    block, step = 2 * side + 2 * GAP, side + LINE + GAP + 2
    sheet = Sheet(columns * block - GAP, -(-len(made) // columns) * step)
    for i, caption in enumerate(captions):
        x, y = i % columns * block, i // columns * step
        sheet.write(x, y + 2, caption, block - 8)
        sheet.put(x, y + LINE + 2, picture(made[i], side))
        sheet.put(x + side, y + LINE + 2, picture(truth[i], side))
    sheet.save(path)


def round_trips(path, captions, truth, restored, mask, blocks=2, side=256):
    """True, through the codec, and four times the difference; pixel for pixel, a window around each object."""
    block, step = 3 * side + 3 * GAP, side + LINE + GAP + 3
    sheet = Sheet(blocks * block - GAP, -(-len(truth) // blocks) * step)
    for i, caption in enumerate(captions):
        x, y = i % blocks * block, i // blocks * step
        sheet.write(x, y + 2, f"{caption}: true, after the codec, difference times 4", block - 8)
        for k, image in enumerate((truth[i], restored[i], (restored[i] - truth[i]) * 4 * mask[i])):
            sheet.put(x + k * side, y + LINE + 3, picture(image, side))
    sheet.save(path)
