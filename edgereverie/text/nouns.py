"""Nouns that are read in a way of their own: places and impressions, words that count, fixed compounds."""

from __future__ import annotations

from edgereverie.text.english import words_of

# Words for places, parts, amounts and impressions, and for the picture itself: nothing that one could fail to see.
ABSTRACT = words_of(
    "image picture photo photograph scene view background foreground left right top bottom centre center middle side "
    "corner edge place position location area spot part section end front back rear distance direction way thing "
    "object item shape figure element kind type sort variety number amount lot total rest pair set point group bunch "
    "row line series array collection stack pile range piece slice bit addition fact detail moment time day "
    "atmosphere sense feeling mood focus attention subject presence absence lack action activity event setting "
    "surroundings environment context reason answer question motion style color colour size height width length angle "
    "order process use purpose experience appearance impression touch contrast variation condition state case example "
    "instance composition perspective arrangement life nature hint form pattern combination mix space pop look role "
    "skill design procedure treatment jump air doubt act vicinity proximity conversation work fun joy beauty charm "
    "depth interest leisure relaxation occasion none everything scenery one ones other others conclusion result "
    "drawing half quarter hmm ok okay sure sorry hello thanks unknown unclear unsure"
)
# Heads that only count or hold what follows "of": the thing is after it.
MEASURES = words_of(
    "group pair couple bunch number lot lots variety series row rows array collection set piece pieces slice slices "
    "bit kind type sort herd flock crowd stack pile dozen dozens hundreds assortment range plenty cluster team line "
    "kinds types groups pairs bunches stacks piles"
)
COMPOUNDS = frozenset(
    [
        "hot dog", "fire hydrant", "traffic light", "stop sign", "parking meter", "teddy bear", "hair dryer", "hair drier",
        "wine glass", "cell phone", "mobile phone", "baseball bat", "baseball glove", "tennis racket", "tennis ball",
        "sports ball", "dining table", "potted plant", "coffee cup", "coffee table", "tennis court", "life jacket",
        "street sign", "street light", "remote control", "computer mouse", "living room", "parking lot", "swimming pool",
        "christmas tree", "polar bear", "ice cream", "french fry", "baby carriage", "toilet paper", "surf board",
        "skate board", "snow board",
    ]
)  # fmt: skip
