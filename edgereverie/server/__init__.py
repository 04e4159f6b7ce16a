"""A model behind HTTP: the chat completions that OpenAI's clients speak, with every claim's evidence, and a page to use it.

A request goes ``listening`` (sockets and their limits) -> ``routes`` (what is asked) -> ``reading`` and ``pictures`` (is it
sound) -> ``worker`` (the one thread that owns the model) -> ``replies`` (in OpenAI's words). One model is served, and one
answer is made at a time; the others wait in a queue of limited length.
"""
