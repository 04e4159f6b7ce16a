"""Small closed lists of English words, and the dictionary form of a noun: what reading claims needs to know of grammar.

The lists are of function words, common adjectives and the verbs of picture captions. There is no list of objects.
"""

from __future__ import annotations

import re


def words_of(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


NUMERALS = words_of(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen twenty thirty "
    "forty fifty dozen hundred"
)
SINGULAR_DETERMINERS = words_of("a an one another each every this")
DEFINITE = words_of("the this these those its his her their my our your")
_AMOUNTS = words_of("some any several many few various multiple both all numerous no neither")
DETERMINERS = NUMERALS | SINGULAR_DETERMINERS | DEFINITE | _AMOUNTS
PREPOSITIONS = words_of(
    "about above across after against along alongside amid among amongst around at atop before behind below beneath "
    "beside besides between beyond by down during for from in inside into like near next of off on onto opposite out "
    "outside over past per round since through throughout till to toward towards under underneath until up upon with "
    "within without"
)
_CONJUNCTIONS = words_of(
    "and or nor but yet so as than then if because although though while whereas when where who whom whose which that "
    "what why how whether plus including instead however therefore thus also"
)
_PRONOUNS = words_of(
    "i you he she it we they me him us them himself herself itself themselves myself yourself mine yours hers ours "
    "theirs something anything nothing everything someone anyone everyone nobody somebody anybody others none ones "
    "there here who"
)
AUXILIARIES = words_of(
    "is are was were be been being am has have had having do does did done can could will would shall should may "
    "might must cannot isn't aren't wasn't weren't doesn't don't didn't can't couldn't hasn't haven't hadn't won't "
    "wouldn't not 's yes"
)
_ADVERBS = words_of(
    "very too quite rather just only even still already again always often sometimes perhaps maybe almost more most "
    "less least much well together apart away back forward forwards backwards nearby else ever never once twice now "
    "today possibly probably likely slightly further farther closer overhead upward upwards downward downwards "
    "indoors outdoors sideways alone ahead aside altogether somewhat"
)
FUNCTION_WORDS = PREPOSITIONS | _CONJUNCTIONS | _PRONOUNS | AUXILIARIES | _ADVERBS

VERBS_S = words_of(
    "shows depicts features contains includes displays captures presents portrays illustrates appears seems looks "
    "suggests indicates adds creates gives makes provides sits stands walks rides holds wears plays runs flies eats "
    "drinks lies lays rests hangs drives carries watches leans jumps sleeps waits talks uses takes gets goes comes "
    "stays keeps has puts pulls pushes throws catches hits kicks swings reaches touches faces follows leads moves "
    "passes crosses covers surrounds fills overlooks enjoys prepares serves cuts cooks reads writes smiles laughs "
    "poses stares gazes swims surfs skis skates climbs floats grows shines points consists belongs occupies lines "
    "allows helps works remains extends stretches stops"
)
VERBS_BASE = words_of(
    "show depict feature contain include display appear seem look sit stand walk ride hold wear play run fly eat "
    "drink lie lay rest hang drive carry watch lean jump sleep wait talk use take get go come stay keep put pull push "
    "throw catch hit reach face follow move pass cover surround fill enjoy prepare smile laugh pose swim surf ski "
    "skate climb float grow"
)
# Past participles without -ed: after a noun they begin a clause (a cake made of), before it they describe it (a cut cake).
PARTICIPLES = words_of(
    "made worn held seen shown lit set built cut hung torn broken driven written drawn known taken left spread kept"
)
_NOUNS_IN_ED = words_of("bed shed sled seed feed weed reed bunkbed flatbed moped biped red")
_NOUNS_IN_ING = words_of(
    "building painting ceiling clothing railing ring king string wing evening morning earring dressing icing frosting "
    "awning swing spring wedding crossing thing sling siding bedding drawing living dining parking swimming shopping "
    "sewing washing cutting baking paddling rolling stuffing filling topping pudding herring lightning plumbing "
    "paneling roofing sibling duckling sapling dumpling bowling"
)
_NOUNS_IN_LY = words_of("family butterfly fly jelly belly lily bully ally dragonfly firefly assembly trolley")

_ADJECTIVES = words_of(
    # colours
    "red green blue yellow black white grey gray brown purple pink beige violet cyan magenta turquoise teal maroon "
    "navy golden silver gold tan dark bright light pale colorful colourful multicolored multicoloured blonde blond "
    # size, shape, age
    "big small large little tiny huge giant enormous massive tall short long wide narrow thick thin slim round oval "
    "rectangular triangular circular square flat curved straight deep shallow high low medium mini old young new "
    "ancient modern vintage antique elderly adult full empty half open closed "
    # material, state, pattern
    "wooden metal metallic plastic leather paper concrete brick stone ceramic steel wool woolen cotton denim wet dry "
    "clean dirty fresh ripe raw cold hot warm cool soft hard smooth rough shiny fluffy furry fuzzy lush grassy sandy "
    "snowy cloudy sunny rainy rocky dusty rusty messy cozy cosy busy crowded quiet calm happy sad hungry sleepy lazy "
    "angry cute pretty beautiful lovely nice good bad great delicious tasty juicy sweet fancy elegant simple plain "
    "stylish tidy neat heavy strong weak fast slow safe social natural unique serene fun lively vibrant gentle "
    "majestic playful energetic medical thrilling peaceful striped spotted checkered plaid floral patterned urban "
    "rural outdoor indoor professional casual formal public private electric single double main same other different "
    "similar certain particular various extra additional whole entire upper lower inner outer front rear central "
    "overall possible several such own favorite favourite bare clear blurry visible present available nearby close "
    "distant parked seated male female"
)
POSTPOSITIVE = words_of(
    "visible present available nearby close full different similar alone together high empty open distant"
)
# Adjectives that are nouns when nothing follows them: an orange, a light, a square.
_NOUNS_TOO = words_of(
    "orange light square glass gold silver paper brick stone adult female male metal plastic leather oval round tan "
    "front"
)
_ADJECTIVE = re.compile(r"(?:ful|ous|ive|able|ible|ish|less|ic|ical|like)$")
_NOUNS_LIKE_ADJECTIVES = words_of(
    "table vegetable cable dish fish radish brush picnic traffic music mosaic ceramic fabric clinic attic comic "
    "mechanic detective bicycle constable starfish goldfish catfish jellyfish swordfish relish rubbish polish finish "
    "handful mouthful bible native octopus hive olive drive dive critic public arctic garlic tunic"
)


def is_adjective(word: str) -> bool:
    """Whether the word describes a noun that follows: listed, or of a form that few nouns have."""
    if word in _ADJECTIVES or word == "orange":
        return True
    return bool(_ADJECTIVE.search(word)) and word not in _NOUNS_LIKE_ADJECTIVES


def is_noun_too(word: str) -> bool:
    return word in _NOUNS_TOO


def is_verbal(word: str) -> bool:
    """A participle: before a noun it describes it (a parked car), after one it begins something else (a car parked)."""
    if word.endswith("ing"):
        return len(word) > 4 and word not in _NOUNS_IN_ING
    return word in PARTICIPLES or (word.endswith("ed") and len(word) > 3 and word not in _NOUNS_IN_ED)


def is_adverb(word: str) -> bool:
    return word.endswith("ly") and word not in _NOUNS_IN_LY and word not in _ADJECTIVES


# fmt: off
_IRREGULAR = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse", "geese": "goose",
    "feet": "foot", "teeth": "tooth", "oxen": "ox", "knives": "knife", "wolves": "wolf", "leaves": "leaf",
    "shelves": "shelf", "loaves": "loaf", "scarves": "scarf", "calves": "calf", "halves": "half", "wives": "wife",
    "thieves": "thief", "elves": "elf", "hooves": "hoof", "cacti": "cactus", "movies": "movie", "cookies": "cookie",
    "ties": "tie", "pies": "pie", "zombies": "zombie", "brownies": "brownie", "hoodies": "hoodie",
    "smoothies": "smoothie", "selfies": "selfie", "veggies": "veggie", "shoes": "shoe", "horseshoes": "horseshoe",
    "snowshoes": "snowshoe", "toes": "toe", "canoes": "canoe", "headaches": "headache", "axes": "axe",
    "lenses": "lens", "moustaches": "moustache", "buses": "bus", "gases": "gas", "dice": "die",
    "avocadoes": "avocado", "taxis": "taxi", "policemen": "policeman", "firemen": "fireman", "fishermen": "fisherman",
    "snowmen": "snowman", "businessmen": "businessman",
}
# fmt: on
_NO_PLURAL = words_of(
    "sheep deer fish scissors pants jeans shorts sunglasses eyeglasses trousers binoculars clothes goggles tongs "
    "pajamas pyjamas leggings headquarters series species aircraft bus gas lens canvas atlas iris tennis grass glass "
    "dress cross moss bass brass mattress compass cutlass chess class christmas pancreas circus cactus octopus walrus "
    "hippopotamus campus virus platypus surroundings skis"
)
PLURAL_ONLY = words_of(
    "scissors pants jeans shorts sunglasses eyeglasses trousers binoculars clothes goggles tongs pajamas pyjamas "
    "leggings skis"
)


def is_plural(word: str) -> bool:
    """Whether the noun's form is plural.

    >>> [is_plural(word) for word in ("dogs", "people", "grass", "bus", "tennis", "jeans")]
    [True, True, False, False, False, True]
    """
    if word in PLURAL_ONLY or word in _IRREGULAR:
        return True
    return len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "us", "is")) and word not in _NO_PLURAL


def singular(word: str) -> str:
    """The dictionary form of a noun; one that is singular already, or has no singular, stays as it is.

    >>> [singular(word) for word in ("crosses", "rings", "boxes", "cherries", "horses", "knives", "buses", "people", "grass")]
    ['cross', 'ring', 'box', 'cherry', 'horse', 'knife', 'bus', 'person', 'grass']
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if not is_plural(word) or word in _NO_PLURAL:
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zzes", "oes", "iruses", "puses", "tuses")):
        return word[:-2]
    return word[:-1]


_PLURAL = {one: many for many, one in reversed(_IRREGULAR.items())}
_SAME = PLURAL_ONLY | words_of("sheep deer fish aircraft series species headquarters surroundings")
_IN_OES = words_of("potato tomato hero echo mosquito torpedo volcano")
_SILENT_H = re.compile(r"(?:hour|honest|honour|honor|heir)", re.IGNORECASE)
_SOUNDS_LIKE_YOU = re.compile(r"(?:uni(?:[^nm]|mo)|use|usual|ute|ukul|eu|ewe|one(?![a-z])|once)", re.IGNORECASE)
_VOWEL_LETTERS = re.compile(r"(?:[aefhilmnorsx](?![a-z])|[AEFHILMNORSX](?=[A-Z\d-])|8|1[18](?!\d))")


def plural(noun: str) -> str:
    """The plural of a noun or of a compound; of "a X of Y" the X. What has no other plural stays as it is.

    >>> [plural(noun) for noun in ("cross", "hot dog", "knife", "cherry", "person", "sheep", "wine glass", "pair of scissors")]
    ['crosses', 'hot dogs', 'knives', 'cherries', 'people', 'sheep', 'wine glasses', 'pairs of scissors']
    """
    if " of " in noun:
        head, rest = noun.split(" of ", 1)
        return f"{plural(head)} of {rest}"
    *describing, head = noun.split(" ")
    return " ".join([*describing, _plural_of(head)])


def _plural_of(word: str) -> str:
    if word in _PLURAL:
        return _PLURAL[word]
    if word in _SAME or not word:
        return word
    if word.endswith("man") and word not in ("human", "german", "roman", "caiman", "talisman"):
        return word[:-2] + "en"
    if word.endswith("y") and len(word) > 1 and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) or word in _IN_OES else "s")


def with_article(phrase: str) -> str:
    """The phrase behind its indefinite article, chosen by the sound that it begins with.

    >>> [with_article(phrase) for phrase in ("apple", "uniform", "hour", "umbrella", "one-way sign", "TV", "X-ray", "orange cat")]
    ['an apple', 'a uniform', 'an hour', 'an umbrella', 'a one-way sign', 'a TV', 'an X-ray', 'an orange cat']
    """
    vowel = phrase[:1].lower() in tuple("aeiou") or bool(_SILENT_H.match(phrase) or _VOWEL_LETTERS.match(phrase))
    if _SOUNDS_LIKE_YOU.match(phrase) or re.match("U[A-Z]", phrase):
        vowel = False
    return f"{'an' if vowel else 'a'} {phrase}"
