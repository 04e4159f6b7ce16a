"""spaCy's en_core_web_lg: large vectors, those of AMBER's own scorer."""

from __future__ import annotations

from edgereverie.evaluation.similarities._spacy import SpacySimilarity

SIMILARITY = SpacySimilarity("en_core_web_lg")
