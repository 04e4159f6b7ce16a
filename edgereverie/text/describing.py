"""Words that say how a thing looks: closed lists of English adjectives, without opinions (a lovely dog) and without objects."""

from __future__ import annotations

from edgereverie.text.english import PARTICIPLES, is_verbal, words_of

COLOURS = words_of(
    "red green blue yellow black white grey gray brown purple pink beige violet cyan magenta turquoise teal maroon navy "
    "golden silver gold tan orange colorful colourful multicolored multicoloured blonde blond transparent"
)
SHADES = words_of("dark bright light pale deep neon royal navy lime hot sky vivid")
SIZES = words_of(
    "big small large little tiny huge giant enormous massive tall short long wide narrow thick thin slim medium mini "
    "oversized"
)
SHAPES = words_of("round oval rectangular triangular circular square flat curved straight")
AGES = words_of("old young new modern vintage antique elderly adult ancient")
MATERIALS = words_of(
    "wooden metal metallic plastic leather paper concrete brick stone ceramic steel wool woolen cotton denim glass "
    "cardboard marble porcelain wicker"
)
PATTERNS = words_of("striped spotted checkered plaid floral patterned polka-dot dotted plain")
STATES = words_of(
    "empty full half-full open closed wet dry clean dirty fresh ripe raw bare cloudy sunny snowy sandy grassy rocky dusty "
    "rusty messy crowded shiny fluffy furry fuzzy hairy bald blurry lit upright sliced parked seated barefoot shirtless "
    "asleep awake muddy leafy bushy snow-covered overcast"
)
_SEEN = COLOURS | SIZES | SHAPES | AGES | MATERIALS | PATTERNS | STATES
# Nouns that are materials: "a metal fence" is made of metal.
SUBSTANCES = words_of(
    "metal plastic leather paper concrete brick stone ceramic steel wool cotton denim glass cardboard marble porcelain "
    "wicker wood gold silver"
)
_UNSEEN_PARTICIPLES = words_of(
    "skilled experienced interested advanced detailed talented focused relaxed excited dedicated unexpected limited "
    "continued crowded designed used loved related combined balanced united visited needed named called based involved "
    "engaged engaging interesting charming inviting stunning relaxing amazing exciting bustling thrilling captivating "
    "pleasing refreshing fascinating appealing outstanding remaining following existing ongoing living moving growing "
    "missing enjoying lying being having making taking adding creating giving providing including featuring featured "
    "visible varying various depicted displayed captured shown seen located positioned placed situated found "
    "set made kept held known taken left given waiting trying preparing looking appearing seeming interacting engaged "
    "gathered spread scattered surrounded accompanied well-maintained well-lit distinguished mixed varied assorted "
    "associated attached dining sleeping-quarters passing doing going coming using getting"
)


def is_visual(word: str) -> bool:
    """Whether the word, said of a thing, can be checked by looking: a colour, a size, a material, a state.

    >>> [is_visual(word) for word in ("red", "wooden", "smiling", "lovely", "other", "several")]
    [True, True, True, False, False, False]
    """
    return word in _SEEN or (word not in _UNSEEN_PARTICIPLES and word not in PARTICIPLES and is_verbal(word))


def is_colour(word: str) -> bool:
    return word in COLOURS


def category(value: str) -> str:
    """What an attribute is about: colour, size, shape, age, material, pattern, or state.

    >>> category("dark brown"), category("made of glass"), category("small"), category("smiling")
    ('colour', 'material', 'size', 'state')
    """
    word = value.split()[-1]
    lists = (("colour", COLOURS), ("material", MATERIALS | SUBSTANCES), ("size", SIZES), ("shape", SHAPES), ("age", AGES),
             ("pattern", PATTERNS))  # fmt: skip
    return next((name for name, held in lists if word in held), "state")
