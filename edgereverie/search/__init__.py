"""Searching a model's answers sentence by sentence: what making training pairs and answering share."""
