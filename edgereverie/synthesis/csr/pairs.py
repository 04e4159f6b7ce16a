"""Prompts to search, and the pairs that their trees give: the best answer against the worst."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from edgereverie.data.card import count_licences, write_card
from edgereverie.data.jsonl import write_pairs
from edgereverie.data.mix import Counts, counts
from edgereverie.errors import DataError
from edgereverie.records import Options, PreferencePair, Sample, Turn
from edgereverie.search.beams import Voice
from edgereverie.synthesis.csr.reward import Reward, reward
from edgereverie.synthesis.csr.search import Judge, Settings, search
from edgereverie.synthesis.csr.trees import Tree
from edgereverie.synthesis.inputs import Item
from edgereverie.synthesis.journal import Journal, key_of
from edgereverie.synthesis.teachers.base import Reply

NO_END, EQUAL, TIED = "no answer came to its end", "both answers are equal", "all answers are worth the same"
IMAGE_GAIN = "the model's own image gain per token"
_ID = 16  # hexadecimal digits


def prompts(samples: Sequence[Sample], root: Path, *, ask: Sequence[str], most: int | None, seed: int) -> list[Item]:
    """What is asked about which picture, by the seed; questions about one picture come together.

    ask: questions, of which each picture gets one; without any, the samples' own first ones, each once. most: as many at
    most, drawn. Samples without a picture have nothing to see and are passed over. Raises DataError when nothing is left.
    """
    rng, found = random.Random(seed), dict[tuple[str, tuple[Turn, ...]], Item]()
    pictures: set[str] = set()
    for sample in samples:
        if sample.image is None or (ask and sample.image in pictures):
            continue
        pictures.add(sample.image)
        turns = (Turn("user", rng.choice(list(ask))),) if ask else _first(sample.turns)
        known = Item(sample.image, root / sample.image, turns, licence=sample.licence)
        found.setdefault((sample.image, turns), known)
    if not found:
        raise DataError("There is no picture to ask about.", hint="CSR searches answers about pictures; name some.")
    drawn = list(found.values())
    if most is not None and most < len(drawn):
        drawn = [drawn[at] for at in sorted(rng.sample(range(len(drawn)), most))]
    order = {name: at for at, name in reversed(list(enumerate(item.image for item in drawn)))}
    return sorted(drawn, key=lambda item: order[item.image])


def _first(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """A conversation up to its first question."""
    at = next(at for at, turn in enumerate(turns) if turn.role == "user")
    return tuple(turns[: at + 1])


@dataclass(slots=True)
class Found:
    """What a search left. rewards: of chosen and rejected, for each pair. sentences: how many there were to rank."""

    prompts: int = 0
    pairs: list[PreferencePair] = field(default_factory=list)
    rewards: list[tuple[float, float]] = field(default_factory=list)
    sentences: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # prompts without a pair
    noted: Counter[str] = field(default_factory=Counter)  # sentences that were thrown away


def searched(
    items: Sequence[Item],
    voice: Voice,
    settings: Settings,
    judge: Judge | None,
    journal: Journal,
    identity: str,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[str, Item, Tree]]:
    """Every prompt's tree with its key: from the journal, or searched and then in it.

    identity: of the model. A key tells all that a tree depends on, so that neither another model nor another setting finds
    this one's. A prompt that is asked twice about equal pictures is searched once.
    """
    told = sha256(repr(sorted(asdict(settings).items())).encode()).hexdigest()
    judged = IMAGE_GAIN if judge is None else judge.identity
    options, seen = Options(settings.sentence_tokens), set[str]()
    for number, item in enumerate(items, 1):
        key = key_of("csr", told, "search", item.content, item.turns, options, f"{identity} / {judged}")
        if key not in seen:
            seen.add(key)
            yield key, item, _tree(key, item, voice, settings, judge, journal, identity)
        progress(number, len(items))


def _tree(
    key: str, item: Item, voice: Voice, settings: Settings, judge: Judge | None, journal: Journal, identity: str
) -> Tree:
    held = journal.get(key)
    if held is None:
        tree = search(item.file, item.turns, voice, settings, judge)
        ended = any(tree.answers())
        journal.add(key, Reply(tree.dump(), tokens_out=sum(node.tokens for node in tree.nodes)), step="search",
                    teacher=identity, rejected=None if ended else NO_END)  # fmt: skip
        return tree
    try:
        return Tree.load(held.text)
    except (ValueError, TypeError, KeyError):
        raise DataError(
            f"{journal.path}: a search in the journal is damaged.", hint="Delete it to search again."
        ) from None


def paired(trees: Iterator[tuple[str, Item, Tree]], kind: Reward, weight: float) -> Found:
    """The best against the worst answer of each tree; a tree that gives none is counted with the reason."""
    found = Found()
    for key, item, tree in trees:
        found.prompts += 1
        found.sentences += len(tree.nodes) - 1
        found.noted.update(tree.dropped)
        worth = {tree.text(answer).strip(): reward(tree, answer, kind, weight) for answer in tree.answers()}
        if not worth:
            found.dropped[NO_END] += 1
            continue
        best, worst = max(worth, key=worth.__getitem__), min(worth, key=worth.__getitem__)
        if len(worth) == 1 or worth[best] == worth[worst]:
            found.dropped[EQUAL if len(worth) == 1 else TIED] += 1
            continue
        found.rewards.append((worth[best], worth[worst]))
        found.pairs.append(
            PreferencePair(key[:_ID], item.image, item.turns, best, worst, reason="sampled",
                           margin=worth[best] - worth[worst], source="csr", licence=item.licence)
        )  # fmt: skip
    return found


def write_found(
    path: Path, found: Found, *, sources: Sequence[str], model: str, identity: str, judge: str, reward: str, seed: int
) -> None:
    """pairs.jsonl with its card; equal searches, equal bytes. Raises DataError when there is no pair at all."""
    if not found.pairs:
        reasons = ", ".join(f"{reason} ({number:,})" for reason, number in found.dropped.most_common())
        raise DataError(
            f"No pair came of {found.prompts:,} prompts: {reasons}.",
            hint="Raise train.csr.characters, ask more, or ask questions with longer answers.",
        )
    write_pairs(path, found.pairs)
    write_card(
        path,
        title="CSR: a model's own answers, the best against the worst",
        sources=sources,
        counts=counted(found),
        licences=count_licences(found.pairs),
        teacher={"name": model, "identity": identity, "judge": judge, "reward": reward},
        seeds={"prompts": seed},
        notes=("No person chose among these answers: a reward did.",),
    )


def counted(found: Found) -> Counts:
    """The pairs counted by their fields, and by the reason what gave none."""
    return replace(
        counts(found.pairs),
        dropped=dict(sorted(found.dropped.items())),
        noted={f"sentence left out: {reason}": number for reason, number in sorted(found.noted.items())},
    )
