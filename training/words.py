# SPDX-License-Identifier: Apache-2.0
"""The language of swatch: colours, sizes, wear, and how a caption is built from them and `catalogue.MATERIALS`.

`random_spec` draws one surface and its caption in plain Python from an explicit random generator;
`spec_for` builds one by hand. Some colour × material pairs are kept out of training for evaluation.
"""

from dataclasses import dataclass

import torch

from .catalogue import FIRST, MATERIALS, SECOND
from .materials import SURFACES, Look

COLOURS = {
    "red": (.72, .10, .09), "orange": (.90, .45, .08), "yellow": (.93, .80, .15), "green": (.16, .52, .16),
    "teal": (.08, .50, .50), "turquoise": (.25, .82, .76), "blue": (.12, .26, .75), "navy": (.06, .09, .30),
    "purple": (.45, .15, .60), "pink": (.93, .50, .65), "brown": (.40, .22, .10), "beige": (.84, .74, .56),
    "olive": (.42, .43, .14), "gold": (.80, .60, .16), "white": (.94, .94, .93), "grey": (.50, .50, .51),
    "black": (.07, .07, .08), "crimson": (.84, .05, .25), "maroon": (.38, .04, .09), "salmon": (.98, .54, .45),
    "tan": (.72, .54, .36), "cream": (.97, .92, .76), "lime": (.62, .88, .12), "mint": (.62, .92, .74),
    "cyan": (.10, .78, .95), "lavender": (.74, .66, .92), "magenta": (.85, .10, .62), "charcoal": (.22, .23, .26),
    "silver": (.75, .76, .79)}
SYNONYMS = {
    "grey": ["grey", "gray"], "purple": ["purple", "violet"], "gold": ["gold", "golden"],
    "maroon": ["maroon", "burgundy"],
    "cream": ["cream", "ivory"], "mossy": ["mossy"], "dirty": ["dirty", "grimy"], "cracked": ["cracked"],
    "old": ["old", "worn", "weathered"], "fine": ["fine", "small"], "large": ["large", "big"],
    "rusty": ["rusty", "rusted"], "snowy": ["snowy"], "charred": ["charred", "burnt"], "faded": ["faded", "bleached"]}
BEHIND = {"mossy": "covered in moss", "snowy": "covered in snow", "rusty": "with rust", "cracked": "with cracks",
          "dirty": "with dirt", "dusty": "covered in dust", "chipped": "with chipped paint"}
FILLERS = ("a texture of", "texture,", "surface of", "made of")
ARTICLES = ("a", "an")
TRAILERS = ("texture", "material", "surface", ", detailed", ", high quality", ", realistic")
TONES = {"dark": lambda c: c * 0.55, "light": lambda c: c * 0.55 + 0.45}
UNTONED = ("white", "black", "navy", "maroon", "charcoal", "cream")
FREQUENCIES = {None: (1.1, 1.65), "fine": (1.8, 2.4), "large": (0.85, 1.05)}
AGEING = ("old", "dirty")       # can lie under another layer: "an old mossy brick wall"
HELD_OUT = 17                   # one colour in so many is kept out of training, whatever the number of colours


@dataclass(frozen=True)
class Spec:
    """One surface and the words for it."""

    material: str
    first: str | None
    second: str | None
    tone: str | None
    size: str | None
    layer: str | None
    under: str | None       # wear beneath the layer
    caption: str
    look: Look


def is_held_out(colour, material):
    """About one colour in seventeen per material is never trained, to measure composition."""
    names = list(COLOURS)
    return colour in names and (names.index(colour) * 5 + list(MATERIALS).index(material) * 3) % HELD_OUT == 1


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
        beneath = [w for w in AGEING if w in material.wear] if layer and layer not in AGEING else []
        under = rng.choice(beneath) if beneath and rng.random() < 0.15 else None
        return spec_for(name, first, second, tone, size, layer, rng, clutter, under)


def spec_for(material, first=None, second=None, tone=None, size=None, layer=None, rng=None, clutter=0.0, under=None):
    """The surface with these words; `rng` draws what the words leave open and how they are put."""
    phrase = rng.choice(MATERIALS[material].phrases)
    main = " ".join(w for w in (tone, _say(first, rng)) if w)
    phrase = phrase.replace(FIRST, main).replace(SECOND, _say(second, rng) or "")
    caption = _clutter(_worn(phrase, size, layer, under, rng), rng, clutter)
    low, high = FREQUENCIES[size]
    look = Look(_rgb(first, tone, rng), _rgb(second, None, rng), rng.uniform(low, high), rng.random(),
                torch.tensor([rng.random() for _ in range(3)]))
    return Spec(material, first, second, tone, size, layer, under, caption, look)


def base_colour(spec, points, normals):
    """The material's colours (P,3), before wear."""
    return SURFACES[spec.material](points, normals, spec.look)


def every_word():
    """All words captions can hold, sorted; each is one token."""
    texts = [p for m in MATERIALS.values() for p in m.phrases]
    texts += [*FILLERS, *ARTICLES, *TRAILERS, *BEHIND.values(), *COLOURS, *TONES]
    texts += [w for ws in SYNONYMS.values() for w in ws] + [w for m in MATERIALS.values() for w in m.wear]
    return sorted({w for t in texts for w in t.replace(",", " ").replace(FIRST, " ").replace(SECOND, " ").split()})


def _worn(phrase, size, layer, under, rng):
    """Size and wear around a phrase: "old mossy brick", "brick covered in moss" or "brick, mossy"."""
    word, draw, behind = _say(layer, rng), rng.random(), ""
    if layer and draw < 0.4:
        behind = BEHIND[layer] if layer in BEHIND and draw < 0.25 else f", {word}"
    front = [w for w in (_say(under, rng), _say(size, rng), None if behind else word) if w]
    if rng.random() < 0.3:
        front.reverse()
    return " ".join([*front, phrase, behind]).strip().replace(" ,", ",")


def _clutter(caption, rng, share):
    """Now and then the words that people put around what they want."""
    if rng.random() >= share:
        return caption
    kind = rng.random()
    if kind < 0.35:
        return f"{'an' if caption[0] in 'aeiou' else 'a'} {caption}"
    if kind < 0.6:
        return f"{rng.choice(FILLERS)} {caption}"
    return f"{caption} {rng.choice(TRAILERS)}".replace(" ,", ",")


def _say(word, rng):
    return rng.choice(SYNONYMS.get(word, [word])) if word else None


def _contrasting(first):
    return [c for c in COLOURS if sum((x - y) ** 2 for x, y in zip(COLOURS[c], COLOURS[first])) > 0.12]


def _rgb(name, tone, rng):
    if name is None:
        return torch.full((3,), 0.5)
    colour = torch.tensor(COLOURS[name]) * rng.uniform(0.9, 1.1)
    colour = colour + torch.tensor([rng.uniform(-0.03, 0.03) for _ in range(3)])
    return TONES.get(tone, lambda c: c)(colour).clamp(0.02, 0.98)
