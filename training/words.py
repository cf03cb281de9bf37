# SPDX-License-Identifier: Apache-2.0
"""The language of swatch: colours, materials, sizes, wear, and how a caption is built from them.

`random_spec` draws one surface and its caption in plain Python from an explicit random generator;
`spec_for` builds one by hand. Some colour × material pairs are kept out of training for evaluation.
"""

from dataclasses import dataclass

import torch

from . import materials
from .materials import Look

COLOURS = {
    "red": (.72, .10, .09), "orange": (.90, .45, .08), "yellow": (.93, .80, .15), "green": (.16, .52, .16),
    "teal": (.08, .50, .50), "turquoise": (.25, .82, .76), "blue": (.12, .26, .75), "navy": (.06, .09, .30),
    "purple": (.45, .15, .60), "pink": (.93, .50, .65), "brown": (.40, .22, .10), "beige": (.84, .74, .56),
    "olive": (.42, .43, .14), "gold": (.80, .60, .16), "white": (.94, .94, .93), "grey": (.50, .50, .51),
    "black": (.07, .07, .08)}
SYNONYMS = {"grey": ["grey", "gray"], "purple": ["purple", "violet"], "gold": ["gold", "golden"],
            "mossy": ["mossy"], "dirty": ["dirty", "grimy"], "cracked": ["cracked"], "old": ["old", "worn", "weathered"],
            "fine": ["fine", "small"], "large": ["large", "big"], "rusty": ["rusty", "rusted"], "snowy": ["snowy"]}
BEHIND = {"mossy": "covered in moss", "snowy": "covered in snow", "rusty": "with rust", "cracked": "with cracks",
          "dirty": "with dirt", "dusty": "covered in dust"}
FIRST, SECOND = "{1}", "{2}"


@dataclass(frozen=True)
class Material:
    phrases: tuple          # "{1}" is the main colour, "{2}" the second
    usual: tuple = ()       # colours drawn half of the time
    wear: tuple = ()
    sized: bool = True      # "fine" and "large" mean something

    @property
    def colours(self):
        return max(SECOND in p for p in self.phrases) + max(FIRST in p for p in self.phrases)


_STONE = ("mossy", "snowy", "dirty", "cracked", "old")
_WOOD = ("mossy", "snowy", "dirty", "dusty", "old")
MATERIALS = {
    "brick": Material(("{1} brick", "{1} bricks", "{1} brick wall"), ("red", "brown", "grey", "orange", "white"), _STONE),
    "tiles": Material(("{1} tiles", "{1} ceramic tiles"), ("white", "blue", "turquoise", "green"), ("mossy", "dirty", "cracked")),
    "planks": Material(("{1} planks", "{1} wood planks", "{1} wooden planks"), ("brown", "beige", "grey", "white"), _WOOD),
    "wood": Material(("{1} wood", "wood, {1}", "{1} wood grain"), ("brown", "beige", "orange"), ("mossy", "dirty", "dusty", "old")),
    "marble": Material(("{1} marble with {2} veins", "{1} marble, {2} veins"), ("white", "black", "green", "pink"), ("mossy", "dusty")),
    "checker": Material(("{1} and {2} checker", "checkerboard in {1} and {2}", "{1} and {2} checkerboard"), (), ("dirty", "old")),
    "stripes": Material(("{1} and {2} stripes", "{1} stripes on {2}", "striped {1} and {2}"), (), ("dirty", "rusty", "old")),
    "vertical_stripes": Material(("{1} and {2} vertical stripes",), (), ("dirty",)),
    "dots": Material(("{1} fabric with {2} dots", "{1} with {2} dots", "{2} dots on {1}"), (), ("dirty",)),
    "mosaic": Material(("{1} and {2} mosaic", "mosaic of {1} and {2}"), (), ("mossy", "dirty")),
    "cobblestone": Material(("{1} cobblestone", "{1} cobblestones"), ("grey", "brown", "beige", "black"), _STONE),
    "plaid": Material(("{1} and {2} plaid", "{1} and {2} tartan"), (), ("old",)),
    "scales": Material(("{1} scales", "{1} dragon scales", "{1} fish scales"), ("green", "teal", "red", "blue", "gold"), ("mossy",)),
    "honeycomb": Material(("{1} honeycomb with {2} lines", "{1} hexagons with {2} lines"), ("yellow", "orange", "grey"), ("dirty",)),
    "plastic": Material(("{1} plastic", "{1} paint", "plain {1}", "{1}"), (), ("dirty", "dusty", "cracked"), False),
    "metal": Material(("{1} metal", "{1} painted metal", "metal painted {1}"), ("grey", "red", "blue", "green", "yellow"), ("rusty", "rusty", "dirty", "dusty", "old"), False),
    "gold": Material(("gold", "gold metal", "shiny gold"), (), ("dusty", "dirty"), False),
    "camouflage": Material(("{1} and {2} camouflage", "camouflage in {1} and {2}"), ("green", "olive", "grey", "beige"), ("dirty",)),
    "gradient": Material(("{1} to {2} gradient", "gradient from {1} to {2}"), (), (), False),
    "zebra": Material(("{1} and {2} zebra", "zebra stripes in {1} and {2}"), ("white", "black"), ()),
    "leopard": Material(("{1} leopard with {2} spots", "{1} with {2} leopard spots"), ("yellow", "orange", "beige", "white"), ()),
    "leather": Material(("{1} leather",), ("brown", "black", "beige", "red"), ("dusty", "old", "cracked")),
    "concrete": Material(("{1} concrete",), ("grey", "grey", "beige", "white"), _STONE, False),
    "stone": Material(("{1} stone", "{1} rock"), ("grey", "brown", "beige", "black"), _STONE),
    "moss": Material(("moss", "green moss"), (), (), False),
    "snow": Material(("snow", "white snow"), (), (), False),
    "sand": Material(("sand", "desert sand"), (), ()),
    "rust": Material(("rust", "rusty iron"), (), (), False),
    "lava": Material(("lava", "glowing lava", "hot lava"), (), ()),
}
FILLERS = ("a texture of", "texture,", "a", "surface of", "made of")
TRAILERS = ("texture", "material", "surface", ", detailed", ", high quality", ", realistic")
TONES = {"dark": lambda c: c * 0.55, "light": lambda c: c * 0.55 + 0.45}
UNTONED = ("white", "black", "navy")
FREQUENCIES = {None: (1.1, 1.65), "fine": (1.8, 2.4), "large": (0.75, 1.0)}


@dataclass(frozen=True)
class Spec:
    """One surface and the words for it."""

    material: str
    first: str | None
    second: str | None
    tone: str | None
    size: str | None
    layer: str | None
    caption: str
    look: Look


def is_held_out(colour, material):
    """About one colour in seventeen per material is never trained, to measure composition."""
    names = list(COLOURS)
    return colour in names and (names.index(colour) * 5 + list(MATERIALS).index(material) * 3) % len(names) == 1


def random_spec(rng, held_out=False, clutter=0.25):
    """Draw a surface from `rng` (random.Random); `held_out` asks for a pair that training never shows."""
    while True:
        name = rng.choice(list(MATERIALS))
        material = MATERIALS[name]
        names = material.usual if material.usual and rng.random() < 0.5 else list(COLOURS)
        first = rng.choice(names) if material.colours else None
        if held_out != is_held_out(first, name):
            continue
        second = rng.choice(_contrasting(first)) if material.colours == 2 else None
        tone = rng.choice(list(TONES)) if first and first not in UNTONED and rng.random() < 0.25 else None
        size = rng.choice([None, None, None, "fine", "large"]) if material.sized else None
        layer = rng.choice(material.wear) if material.wear and rng.random() < 0.35 else None
        return spec_for(name, first, second, tone, size, layer, rng, clutter)


def spec_for(material, first=None, second=None, tone=None, size=None, layer=None, rng=None, clutter=0.0):
    """The surface with these words; `rng` draws what the words leave open and how they are put."""
    phrase = rng.choice(MATERIALS[material].phrases)
    main = " ".join(w for w in (tone, _say(first, rng)) if w)
    phrase = phrase.replace(FIRST, main).replace(SECOND, _say(second, rng) or "")
    behind = layer in BEHIND and rng.random() < 0.3
    front = [w for w in (_say(size, rng), None if behind else _say(layer, rng)) if w]
    if rng.random() < 0.3:
        front.reverse()
    caption = " ".join([*front, phrase] + ([BEHIND[layer]] if behind else []))
    if rng.random() < clutter:
        caption = f"{rng.choice(FILLERS)} {caption}" if rng.random() < 0.5 else f"{caption} {rng.choice(TRAILERS)}"
    low, high = FREQUENCIES[size]
    look = Look(_rgb(first, tone, rng), _rgb(second, None, rng), rng.uniform(low, high), rng.random(),
                torch.tensor([rng.random() for _ in range(3)]))
    return Spec(material, first, second, tone, size, layer, caption.replace(" ,", ","), look)


def base_colour(spec, points, normals):
    """The material's colours (P,3), before wear."""
    return getattr(materials, spec.material)(points, normals, spec.look)


def every_word():
    """All words captions can hold, sorted; each is one token."""
    texts = [p for m in MATERIALS.values() for p in m.phrases] + [*FILLERS, *TRAILERS, *BEHIND.values(), *COLOURS, *TONES]
    texts += [w for ws in SYNONYMS.values() for w in ws] + [w for m in MATERIALS.values() for w in m.wear]
    return sorted({w for t in texts for w in t.replace(",", " ").replace("{1}", " ").replace("{2}", " ").split()})


def _say(word, rng):
    return rng.choice(SYNONYMS.get(word, [word])) if word else None


def _contrasting(first):
    return [c for c in COLOURS if sum((x - y) ** 2 for x, y in zip(COLOURS[c], COLOURS[first])) > 0.12]


def _rgb(name, tone, rng):
    if name is None:
        return torch.full((3,), 0.5)
    colour = torch.tensor(COLOURS[name]) * rng.uniform(0.9, 1.1) + torch.tensor([rng.uniform(-0.03, 0.03) for _ in range(3)])
    return TONES.get(tone, lambda c: c)(colour).clamp(0.02, 0.98)
