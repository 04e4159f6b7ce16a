"""What llama_decode reads, filled from numpy arrays."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np


class Batch:
    """What llama_decode reads, as arrays that are filled anew for each call: either token ids or embeddings, never both."""

    def __init__(self, lib: Any, size: int, width: int) -> None:
        self.ids, self.places = np.zeros(size, np.int32), np.zeros(size, np.int32)
        self.logits, self._one = np.zeros(size, np.int8), np.ones(size, np.int32)
        self.sequences = np.zeros(size, np.int32)
        self.rows = np.zeros((size, width), np.float32)  # pages that no picture touches take no memory
        # The list of each token's sequences, of which it has one: addresses of consecutive places.
        self._lists = self.sequences.ctypes.data + self.sequences.itemsize * np.arange(size, dtype=np.uintp)
        self._struct = lib.llama_batch()
        kinds = dict(lib.llama_batch._fields_)
        arrays = {"token": self.ids, "embd": self.rows, "pos": self.places, "n_seq_id": self._one,
                  "seq_id": self._lists, "logits": self.logits}  # fmt: skip
        self._pointers = {name: ctypes.cast(array.ctypes.data, kinds[name]) for name, array in arrays.items()}
        for name in ("pos", "n_seq_id", "seq_id", "logits"):
            setattr(self._struct, name, self._pointers[name])

    def filled(
        self,
        ids: np.ndarray,
        rows: np.ndarray | None,
        places: np.ndarray | int,
        sequences: np.ndarray | int,
        wanted: np.ndarray | bool,
    ) -> Any:
        count = len(ids)
        if rows is None:
            self.ids[:count] = ids
        else:
            self.rows[:count] = rows
        self._struct.token = self._pointers["token"] if rows is None else None
        self._struct.embd = None if rows is None else self._pointers["embd"]
        self._struct.n_tokens = count
        self.places[:count], self.sequences[:count], self.logits[:count] = places, sequences, wanted
        return self._struct
