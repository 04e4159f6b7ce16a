"""spaCy's en_core_web_sm: small model, which has no vectors of words: it compares what its network makes of each."""

from __future__ import annotations

from edgereverie.evaluation.similarities._spacy import SpacySimilarity

SIMILARITY = SpacySimilarity("en_core_web_sm")
