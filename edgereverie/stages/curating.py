"""Data files looked through, counted, shown, mixed, fetched and written in other forms."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.bundle import write_text
from edgereverie.errors import DataError
from edgereverie.records import PreferencePair, Sample
from edgereverie.registry import SOURCES, did_you_mean
from edgereverie.stages._console import bytes_passing, passing

if TYPE_CHECKING:
    from edgereverie.data.check import Checked
    from edgereverie.data.get import Got, Unpacked
    from edgereverie.data.lengths import Lengths
    from edgereverie.data.load import Loaded
    from edgereverie.data.mix import Counts
    from edgereverie.data.stats import Statistics

CANONICAL = "canonical"  # what the command line calls our own form


def check_data(
    file: Path,
    *,
    format: str = "auto",
    images: Path | None = None,
    quick: bool = False,
    against: Sequence[Path] = (),
    backbone: str | None = None,
    max_tokens: int | None = None,
) -> Checked:
    """All that is wrong with a data file, and what is worth knowing; see ``data.check``."""
    from edgereverie.data.check import check

    lengths = backbone_lengths(backbone) if backbone is not None else None
    return check(
        file, format=format, images=images, quick=quick, against=against, lengths=lengths, limit=max_tokens, bar=passing
    )


def data_statistics(file: Path, *, format: str = "auto", backbone: str | None = None) -> Statistics:
    """The figures of a data file, in tokens of the backbone or, without one, in words; see ``data.stats``."""
    from edgereverie.data.stats import statistics

    lengths = backbone_lengths(backbone) if backbone is not None else None
    loaded = load_records(file, format=format)
    with passing("count") as progress:
        found = statistics(loaded.records, lengths, progress)
    return replace(found, counts=replace(found.counts, dropped=loaded.counts.dropped, noted=loaded.counts.noted))


def backbone_lengths(name: str) -> Lengths:
    """How the backbone of that name, folder or hub id counts tokens; no weights are loaded."""
    from edgereverie.chat import encode
    from edgereverie.data.lengths import Lengths
    from edgereverie.stages.backbones import model_folder

    folder = model_folder(name)
    tokenizer, chat, image = folder.tokenizer(), folder.chat, folder.image.tokens
    image_id = folder.config.get("image_token_index")

    def conversation(turns: Sequence[Any], pictured: bool) -> int:
        return len(encode(tokenizer, chat, turns, image_tokens=image if pictured else 0, image_id=image_id)[0])

    def text(words: str) -> int:
        return len(tokenizer.encode(words, add_special_tokens=False).ids)

    return Lengths(name, conversation, text, folder.context)


def preview_data(
    file: Path,
    out: Path,
    *,
    images: Path | None = None,
    format: str = "auto",
    number: int = 50,
    seed: int = 0,
    force: bool = False,
) -> Path:
    """One self-contained page with ``number`` records that the seed picks; see ``data.preview``."""
    from edgereverie.data.preview import chosen_records, render

    _require_free(out, force)
    if images is not None and not images.is_dir():
        raise DataError(f"{images}: no such image folder.", hint="Name the folder that image paths are relative to.")
    records = load_records(file, format=format).records
    page = render(file.name, chosen_records(records, number, seed), len(records), images)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    return out


def convert_data(
    source: Path,
    out: Path,
    *,
    to: str = CANONICAL,
    format: str = "auto",
    images: Path | None = None,
    extract: Path | None = None,
    force: bool = False,
) -> Counts:
    """Write a data file in another form.

    images: look for the pictures there first. extract: where pictures that the file holds itself are written to. Returns
    the counts of what was read, with what the form has no place for among the noted. Raises DataError when the form is for
    other records, or a record does not fit it; nothing is written then.
    """
    from edgereverie.data.jsonl import write_pairs, write_samples
    from edgereverie.data.rows import Tally

    if to != CANONICAL and to not in SOURCES.names():
        raise DataError(f"Unknown data format {to!r}.", hint=did_you_mean(to, [CANONICAL, *SOURCES.names()]))
    _require_free(out, force)
    loaded = load_records(source, format=format, images=images, extract=extract)
    pairs = isinstance(loaded.records[0], PreferencePair)
    if to == CANONICAL:
        (write_pairs if pairs else write_samples)(out, loaded.records)
        return loaded.counts
    form = SOURCES.get(to)
    if (form.kind == "pairs") != pairs:
        held = "preference pairs" if pairs else "samples"
        raise DataError(
            f"{source} holds {held}; the form {to!r} is for {form.kind}.",
            hint="Choose a form of the same kind, or canonical.",
        )
    tally = Tally(noted=Counter(loaded.counts.noted))
    form.write(out, loaded.records, tally)
    return replace(loaded.counts, noted=dict(tally.noted))


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a mixture took of one source. left_out: records by label (``positive``, ``negative``, ``none``)."""

    path: Path
    held: int
    taken: int
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Mixed:
    """The files of a mixture with what is in each, and what came from where."""

    parts: Mapping[Path, Counts]
    drawn: Sequence[Drawn]


def mix_data(
    sources: Sequence[tuple[Path, float | None]],
    out: Path,
    *,
    seed: int = 0,
    total: int | None = None,
    balance: bool = False,
    validation: float | None = None,
    images: Path | None = None,
    force: bool = False,
) -> Mixed:
    """Records of several files in one canonical file, in an order that the seed decides, with a data card beside it.

    sources: files with shares, relative to one another; where no file has one, all records of all are taken. validation:
    the share of pictures whose records go to ``OUT.validation.jsonl`` instead. images: the image root; pictures are looked
    for there, and files of equal content count as one picture. See ``data.mix`` for the rest.
    """
    from edgereverie.data.mix import draw, label_of, shuffled

    kept_out = out.with_name(f"{out.stem}.validation{out.suffix}")
    for path in (out,) if validation is None else (out, kept_out):
        _require_free(path, force)
    loaded = [load_records(path, images=images) for path, _ in sources]
    _require_one_kind([path for path, _ in sources], loaded)
    shares = _shares(sources, loaded)
    drawn = draw(
        list(zip([one.records for one in loaded], shares, strict=True)), seed=seed, total=total, balance=balance
    )
    told = [
        Drawn(path, len(one.records), len(part), Counter(map(label_of, one.records)) - Counter(map(label_of, part)))
        for (path, _), one, part in zip(sources, loaded, drawn, strict=True)
    ]
    parts = {out: shuffled(drawn, seed=seed)}
    if validation is not None:
        parts[out], parts[kept_out] = _split(parts[out], validation, seed, images)
    out.parent.mkdir(parents=True, exist_ok=True)
    return Mixed({path: _write_part(path, part, told, loaded, seed) for path, part in parts.items()}, told)


def _require_one_kind(paths: Sequence[Path], loaded: Sequence[Loaded]) -> None:
    kinds = {isinstance(one.records[0], PreferencePair): path for path, one in zip(paths, loaded, strict=True)}
    if len(kinds) > 1:
        raise DataError(f"{kinds[True]} holds preference pairs, {kinds[False]} samples.",
                        hint="Mix files of one kind: they are for different trainings.")  # fmt: skip


def _shares(sources: Sequence[tuple[Path, float | None]], loaded: Sequence[Loaded]) -> list[float]:
    if all(share is None for _, share in sources):
        return [float(len(one.records)) for one in loaded]
    return [1.0 if share is None else share for _, share in sources]


def _split(records: list[Any], share: float, seed: int, images: Path | None) -> tuple[list[Any], list[Any]]:
    from edgereverie.data.duplicates import picture_name
    from edgereverie.data.looks import digests
    from edgereverie.data.mix import split_by_image

    contents: dict[str, str] = {}
    if images is not None:
        named = (
            image for record in records for image in (record.image, getattr(record, "rejected_image", None)) if image
        )
        with passing("read pictures") as progress:
            contents = digests(images, dict.fromkeys(map(picture_name, named)), progress)
    return split_by_image(records, share, seed, contents)


def _write_part(path: Path, records: list[Any], drawn: Sequence[Drawn], loaded: Sequence[Loaded], seed: int) -> Counts:
    """The records and their card."""
    from edgereverie.data.card import write_card
    from edgereverie.data.jsonl import write_pairs, write_samples
    from edgereverie.data.mix import counts
    from edgereverie.data.stats import licences

    (write_pairs if isinstance(records[0], PreferencePair) else write_samples)(path, records)
    dropped, noted = Counter[str](), Counter[str]()
    for one, source in zip(loaded, drawn, strict=True):
        dropped.update(one.counts.dropped)
        noted.update(one.counts.noted)
        dropped.update({f"not drawn from {source.path.name}: {label}": n for label, n in source.left_out.items()})
    told = replace(counts(records), dropped=dict(dropped), noted=dict(noted))
    write_card(
        path,
        title=path.stem,
        sources=[f"{source.path.name}: {source.taken:,} of {source.held:,} records" for source in drawn],
        counts=told,
        licences=licences(records),
        teacher={source.path.name: _teacher(source.path) for source in drawn},
        seeds={"mix": seed},
    )
    return told


def _teacher(source: Path) -> Any:
    """Who wrote a source's texts, as far as a data card beside it tells."""
    try:
        return json.loads(source.with_name(f"{source.stem}.card.json").read_text(encoding="utf-8"))["teacher"]
    except (OSError, ValueError, KeyError, TypeError):
        return "not told: there is no data card beside it"


def get_data(name: str, folder: Path, *, force: bool = False) -> list[Got]:
    """The files of a catalogue entry in ``folder``, fetched where they are not there, and compared with their hashes."""
    from edgereverie.data.catalogue import item
    from edgereverie.data.get import get

    return get(item(name), folder, force=force, bar=bytes_passing)


def unpack_data(name: str, folder: Path) -> list[Unpacked]:
    """The archives of a catalogue entry in ``folder``, their content where it belongs."""
    from edgereverie.data.catalogue import item
    from edgereverie.data.get import unpacked

    return unpacked(item(name), folder, bar=bytes_passing)


def is_offline() -> bool:
    """Whether the environment forbids the net, as Hugging Face's tools understand it."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def load_records(
    path: Path, *, format: str = "auto", images: Path | None = None, extract: Path | None = None
) -> Loaded[Sample] | Loaded[PreferencePair]:
    """The file's samples, or its preference pairs, whichever it holds."""
    from edgereverie.data.jsonl import kind_of_file
    from edgereverie.data.load import CANONICAL as OURS
    from edgereverie.data.load import form_of, load_pairs, load_samples

    form = form_of(path) if format == "auto" else format
    known = SOURCES.get(form).kind if form in SOURCES.names() else None
    pairs = (kind_of_file(path) if form == OURS else known) == "pairs"
    given: dict[str, Any] = {} if extract is None else {"extract": extract}
    return (load_pairs if pairs else load_samples)(path, format=form, images=images, **given)


def _require_free(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise DataError(f"{path} exists already.", hint="Choose another name, or pass --force to replace it.")
