"""What stands in a data set more than once: equal records, pictures of equal content or like looks, and contradictions."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from edgereverie.data.faults import shown
from edgereverie.data.findings import Findings
from edgereverie.data.fingerprints import near_groups
from edgereverie.data.looks import Look
from edgereverie.data.placed import Placed, Record
from edgereverie.records import Sample
from edgereverie.text.asking import says_yes

SAME_RECORD, SAME_CONTENT, LIKE_LOOKS = "duplicate record", "pictures of equal content", "near-duplicate pictures"
CONTRADICTION = "contradicting answers"
_NAMED = 4  # members of a group that are spelt out


def picture_name(image: str) -> str:
    """One name for one file.

    >>> picture_name("./coco/a.jpg")
    'coco/a.jpg'
    """
    return posixpath.normpath(image)


def repeated_records(placed: Iterable[Placed], contents: Mapping[str, str], findings: Findings) -> None:
    """Warn of records that say the same of the same picture, whatever their ids. contents: image -> SHA-256, where known."""
    first: dict[int, tuple[str, Placed]] = {}
    again: dict[int, list[str]] = {}
    for place, record in placed:
        key = hash((contents.get(record.image or "", record.image), *_said(record)))
        if key in first:
            again.setdefault(key, []).append(f"{record.id}{place}")
        else:
            first[key] = record.id, (place, record)
    for key, others in again.items():
        name, (place, _) = first[key]
        findings.warn(
            SAME_RECORD,
            f"({name}) stands here and {_times(len(others))} more: {_some(others)}.",
            "Keep one of them, unless it is meant to weigh more.",
            place,
            name,
            len(others),
        )


def _said(record: Record) -> tuple[object, ...]:
    if isinstance(record, Sample):
        return record.turns, record.rationale
    return record.turns, record.chosen, record.rejected, record.rejected_image


def contradictions(placed: Iterable[Placed], contents: Mapping[str, str], findings: Findings) -> None:
    """Warn of one question about one picture that is answered with yes here and with no there."""
    answers: dict[tuple[str | None, str], tuple[bool, Placed]] = {}
    for place, record in placed:
        if not isinstance(record, Sample):
            continue
        for asked, answered in pairwise(record.turns):
            if asked.role != "user" or (yes := says_yes(answered.text)) is None:
                continue
            key = (contents.get(record.image or "", record.image), " ".join(asked.text.lower().split()))
            before, (there, other) = answers.setdefault(key, (yes, (place, record)))
            if before != yes:
                findings.warn(
                    CONTRADICTION,
                    f"({record.id}) answers {shown(asked.text)} with {'yes' if yes else 'no'}, ({other.id}){there} with "
                    f"{'no' if yes else 'yes'}, about the same picture.",
                    "Look at the picture and keep the right one.",
                    place,
                    record.id,
                )


def repeated_pictures(
    looks: Mapping[str, Look], users: Mapping[str, Placed], findings: Findings, *, near: bool = True
) -> None:
    """Warn of files with the same bytes under several names, and of different files that look alike.

    users: the first record of each image, which gives the place.
    """
    by_content: dict[str, list[str]] = {}
    for image, seen in looks.items():
        if seen.sha256:
            by_content.setdefault(seen.sha256, []).append(image)
    for images in by_content.values():
        if len(images) > 1:
            _warn_of(SAME_CONTENT, images, "have the same bytes", users, findings)
    if not near:
        return
    different = [images[0] for images in by_content.values() if looks[images[0]].fingerprint is not None]
    prints = [looks[image].fingerprint for image in different]
    for group in near_groups(prints):  # type: ignore[arg-type]  # those without one were left out
        _warn_of(LIKE_LOOKS, [different[index] for index in group], "look alike", users, findings)


def _warn_of(kind: str, images: Sequence[str], told: str, users: Mapping[str, Placed], findings: Findings) -> None:
    place, record = users[images[0]]
    findings.warn(
        kind,
        f"{_some(images)} {told}.",
        "Keep their records on one side of a split; mix --images does so for equal content.",
        place,
        record.id,
        len(images) - 1,
    )


def _some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are.

    >>> _some(["a", "b"]), _some(["a", "b", "c", "d", "e", "f"])
    ('a, b', 'a, b, c, d and 2 more')
    """
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"
