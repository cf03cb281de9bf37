# SPDX-License-Identifier: Apache-2.0
"""The materials as words: how each is said, the colours it usually has, and the wear it can take.

The order is part of what is held out of training (`words.is_held_out`): new materials go to the end.
"""

from dataclasses import dataclass

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


def _of(phrases, usual="", wear="", sized=True):
    """A row of the table: phrases apart by "|", colours and wear by spaces."""
    return Material(tuple(phrases.split("|")), tuple(usual.split()), tuple(wear.split()), sized)


_STONE = "mossy snowy dirty cracked old"
_WOOD = "mossy snowy dirty dusty old chipped charred"
_CLOTH = "dirty faded old"
MATERIALS = {
    "brick": _of("{1} brick|{1} bricks|{1} brick wall|{1} brickwork", "red brown grey orange white",
                 _STONE + " charred"),
    "tiles": _of("{1} tiles|{1} ceramic tiles", "white blue turquoise green", "mossy dirty cracked"),
    "planks": _of("{1} planks|{1} wood planks|{1} wooden planks|{1} timber", "brown beige grey white", _WOOD),
    "wood": _of("{1} wood|wood, {1}|{1} wood grain", "brown beige orange", "mossy dirty dusty old charred"),
    "marble": _of("{1} marble with {2} veins|{1} marble, {2} veins", "white black green pink", "mossy dusty"),
    "checker": _of("{1} and {2} checker|checkerboard in {1} and {2}|{1} and {2} checkerboard", "", "dirty old faded"),
    "stripes": _of("{1} and {2} stripes|{1} stripes on {2}|striped {1} and {2}", "", "dirty rusty old faded"),
    "vertical_stripes": _of("{1} and {2} vertical stripes", "", "dirty faded"),
    "dots": _of("{1} fabric with {2} dots|{1} with {2} dots|{2} dots on {1}", "", "dirty faded"),
    "mosaic": _of("{1} and {2} mosaic|mosaic of {1} and {2}", "", "mossy dirty"),
    "cobblestone": _of("{1} cobblestone|{1} cobblestones", "grey brown beige black", _STONE),
    "plaid": _of("{1} and {2} plaid|{1} and {2} tartan", "", "old faded"),
    "scales": _of("{1} scales|{1} dragon scales|{1} fish scales", "green teal red blue gold", "mossy"),
    "honeycomb": _of("{1} honeycomb with {2} lines|{1} hexagons with {2} lines", "yellow orange grey", "dirty"),
    "plastic": _of("{1} plastic|{1} paint|plain {1}|{1}", "", "dirty dusty cracked chipped faded", False),
    "metal": _of("{1} metal|{1} painted metal|metal painted {1}", "grey red blue green yellow silver",
                 "rusty rusty chipped chipped dirty dusty old", False),
    "gold": _of("gold|gold metal|shiny gold", "", "dusty dirty", False),
    "camouflage": _of("{1} and {2} camouflage|camouflage in {1} and {2}", "green olive grey beige tan", "dirty faded"),
    "gradient": _of("{1} to {2} gradient|gradient from {1} to {2}", "", "", False),
    "zebra": _of("{1} and {2} zebra|zebra stripes in {1} and {2}", "white black"),
    "leopard": _of("{1} leopard with {2} spots|{1} with {2} leopard spots", "yellow orange beige white tan"),
    "leather": _of("{1} leather", "brown black beige red tan", "dusty old cracked"),
    "concrete": _of("{1} concrete|{1} cement", "grey grey beige white", _STONE, False),
    "stone": _of("{1} stone|{1} rock", "grey brown beige black", _STONE),
    "moss": _of("moss|green moss", "", "", False),
    "snow": _of("snow|white snow", "", "", False),
    "sand": _of("sand|desert sand"),
    "rust": _of("rust|rusty iron", "", "", False),
    "lava": _of("lava|glowing lava|hot lava"),
    "granite": _of("{1} granite", "grey pink black charcoal", _STONE),
    "plaster": _of("{1} plaster|{1} stucco|{1} plaster wall", "white cream beige salmon", _STONE),
    "terracotta": _of("terracotta|terracotta clay|fired clay", "", "mossy dirty dusty cracked old"),
    "brushed_steel": _of("brushed steel|steel|brushed metal|stainless steel", "", "rusty dirty dusty", False),
    "copper": _of("copper|shiny copper|polished copper", "", "dusty dirty", False),
    "verdigris": _of("verdigris|copper patina|oxidized copper"),
    "denim": _of("{1} denim|{1} jeans", "blue navy black grey", _CLOTH),
    "tweed": _of("{1} and {2} tweed|{1} tweed with {2}|{1} and {2} herringbone", "brown grey olive tan", _CLOTH),
    "knit": _of("{1} knit|{1} knitted wool|{1} wool|{1} sweater", "cream grey red navy", _CLOTH),
    "quilt": _of("{1} quilted fabric|{1} quilt|{1} padded fabric", "", _CLOTH),
    "flowers": _of("{1} with {2} flowers|{1} fabric with {2} flowers|{2} flowers on {1}", "", _CLOTH),
    "stars": _of("{1} with {2} stars|{2} stars on {1}", "", _CLOTH),
    "chevron": _of("{1} and {2} chevron|{1} and {2} zigzag", "", "dirty faded"),
    "waves": _of("{1} and {2} waves|wavy {1} and {2} stripes", "", "dirty faded"),
    "candy": _of("{1} and {2} candy|{1} and {2} spiral|{1} and {2} diagonal stripes", "red white", "chipped"),
    "glaze": _of("{1} glaze|{1} glazed ceramic|speckled {1} glaze|{1} glazed pottery", "", "cracked dusty chipped"),
    "circuit": _of("{1} circuit board|{1} circuit", "green blue black", "dusty"),
    "crystal": _of("{1} crystal|{1} gemstone", "purple cyan pink", "mossy snowy"),
    "carbon_fibre": _of("carbon fibre|carbon fiber", "", "dusty"),
    "bark": _of("{1} bark|{1} tree bark", "brown grey", "mossy mossy snowy charred"),
    "parquet": _of("{1} parquet|{1} wood parquet|{1} parquet floor", "brown tan beige", "dirty dusty old"),
    "wicker": _of("{1} wicker|{1} basket weave|{1} woven basket", "tan brown beige", "dirty dusty old"),
    "bamboo": _of("{1} bamboo", "green tan beige", "mossy snowy old"),
    "shingles": _of("{1} shingles|{1} roof tiles|{1} roof shingles", "red brown grey charcoal", _STONE),
    "pebbles": _of("{1} pebbles|{1} gravel", "grey brown tan", "mossy snowy dirty"),
    "terrazzo": _of("{1} terrazzo|{1} terrazzo floor", "white cream grey charcoal", "dirty dusty cracked"),
    "giraffe": _of("giraffe|giraffe fur|giraffe spots"),
    "tiger": _of("tiger|tiger fur|tiger stripes"),
    "cow": _of("cow|cow hide|cow spots", "", "dirty"),
    "fur": _of("{1} fur|furry {1}|{1} fluffy fur", "brown grey white orange", "snowy dirty"),
    "feathers": _of("{1} feathers|{1} bird feathers", "", "snowy"),
    "snakeskin": _of("{1} snake skin|{1} snakeskin", "green brown olive beige", "dusty"),
    "grass": _of("grass|green grass|lawn", "", "snowy"),
    "ice": _of("ice|blue ice|frozen ice", "", "snowy"),
    "jade": _of("jade|green jade|polished jade", "", "dusty"),
    "mud": _of("dry mud|mud|dry earth", "", "mossy snowy"),
    "clouds": _of("clouds|cloudy sky|blue sky with clouds"),
    "galaxy": _of("galaxy|starry night|space"),
    "fire": _of("fire|flames|burning flames"),
    "water": _of("water|pool water|clear water"),
    "watermelon": _of("watermelon|watermelon rind"),
}
