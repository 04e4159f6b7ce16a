"""spaCy's en_core_web_md: medium vectors."""

from __future__ import annotations

from edgereverie.evaluation.similarities._spacy import SpacySimilarity

SIMILARITY = SpacySimilarity("en_core_web_md")
