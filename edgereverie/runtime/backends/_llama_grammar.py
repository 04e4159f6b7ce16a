"""llama.cpp's own grammars (GBNF), one sampler for one answer."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgereverie.errors import BackendError
from edgereverie.runtime.grammar import START, grammar_text

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data


class LlamaGrammar:
    """Which tokens a grammar lets through. reason: what llama.cpp's log says of one that it does not take."""

    def __init__(self, lib: Any, vocab: Any, grammar: str, reason: Any) -> None:
        self._lib = lib
        self._sampler = lib.llama_sampler_init_grammar(vocab, grammar_text(grammar).encode(), START.encode())
        if not self._sampler:
            raise BackendError(
                f"llama.cpp cannot read the grammar ({reason()}).",
                hint='Write it in GBNF with a rule named root, or name it "json".',
            )
        self._release = weakref.finalize(self, lib.llama_sampler_free, self._sampler)

    def allow(self, tokens: Sequence[int] | np.ndarray) -> np.ndarray:
        candidates = np.zeros(len(tokens), _CANDIDATE)
        candidates["id"] = tokens
        lib = self._lib
        place = candidates.ctypes.data_as(ctypes.POINTER(lib.llama_token_data))
        lib.llama_sampler_apply(self._sampler, lib.llama_token_data_array(place, len(tokens), -1, False))
        return candidates["logit"] == 0

    def accept(self, token: int) -> None:
        # llama.cpp throws through the caller for a token that the grammar does not allow, which would end the process.
        if not self.allow([token])[0]:
            raise BackendError(f"The grammar does not allow token {token} here.", hint="Choose among those it allows.")
        self._lib.llama_sampler_accept(self._sampler, token)

    def close(self) -> None:
        """Free it now. Harmless when done twice; nothing may be asked of it afterwards."""
        self._release()
