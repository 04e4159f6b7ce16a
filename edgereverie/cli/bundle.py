"""``edgereverie bundle``: check, show, compare, pack and unpack exported bundles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgereverie.cli.console import console, done, print_json

if TYPE_CHECKING:
    from edgereverie.bundle import Bundle

app = typer.Typer(help="Check, show, compare or pack exported bundles.", no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(help="The bundle's folder.")]
Out = Annotated[Path | None, typer.Option("--out", help="Where to write. Default: beside it.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
PACKED = ".bundle.zip"
DIFFERENT = 1


@app.command()
def check(folder: Folder) -> None:
    """Prove that a bundle is whole: hashes, lengths, manifest, what its files make a runtime read, and its parity.

    Leaves with 1 also when it is whole but failed the comparison with its model.

    Example: edgereverie bundle check runs/starter-reverie/bundles/starter-reverie-gguf-q8-0
    """
    from edgereverie.bundle import Bundle
    from edgereverie.errors import BundleError

    bundle = Bundle.load(folder)
    bundle.check()
    told = {"parity": _verdict(bundle.parity), **_inspected(bundle.parity), **_promises(bundle)}
    told |= {"hallucination card": _card(bundle), **_licences(bundle)}
    for name, value in told.items():
        print(f"{name}: {value}")
    if bundle.parity.get("passed") is False:
        raise BundleError(
            f"{folder}: its files are whole, but it failed the comparison with its model.",
            hint="It was kept on request (--allow-parity-failure). Export with a finer quantization.",
        )
    print(f"{folder}: whole, {len(bundle.files)} files agree with the manifest.")


@app.command()
def show(folder: Folder, as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False) -> None:
    """Show what a bundle is, what it was made from, whose licences bind it, and how close it stayed.

    Example: edgereverie bundle show runs/starter-reverie/bundles/starter-reverie-gguf-q8-0
    """
    from edgereverie.bundle import Bundle
    from edgereverie.records import as_json as plain

    bundle = Bundle.load(folder)
    if as_json:
        print_json({key: value for key, value in plain(bundle).items() if key != "folder"})
        return
    facts = {
        "name": bundle.name,
        "target": f"{bundle.target}, {bundle.quantization}",
        "chat format": bundle.chat,
        "image": f"{bundle.image.size} x {bundle.image.size}, {bundle.image.tokens} tokens, {bundle.image.fit}",
        "context": f"{bundle.context:,} tokens",
        **{f"made from: {key}": _short(value) for key, value in bundle.made_from.items() if key != "licences"},
        **_licences(bundle),
        "parity": _verdict(bundle.parity),
        **dict(_figures(bundle.parity)),
        **_inspected(bundle.parity),
        **_promises(bundle),
        "hallucination card": _card(bundle),
        **{f"file: {role}": f"{file.path}, {file.bytes / 1e6:,.1f} MB" for role, file in bundle.files.items()},
    }
    _table((key, value) for key, value in facts.items())


@app.command()
def diff(
    one: Folder,
    other: Annotated[Path, typer.Argument(help="The other bundle's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the differences as JSON.")] = False,
) -> None:
    """Show what sets two bundles apart: files, quantization, what they were made from, parity, image geometry.

    Leaves with 1 when there is anything.

    Example: edgereverie bundle diff bundles/starter-gguf-q8-0 bundles/starter-gguf-q4-k-m
    """
    from edgereverie.bundle import Bundle
    from edgereverie.bundle.differences import differences

    found = differences(Bundle.load(one), Bundle.load(other))
    if as_json:
        print_json([{"what": key, "one": first, "other": second} for key, first, second in found])
    elif found:
        _table(((key, _short(first), _short(second)) for key, first, second in found), ("what", str(one), str(other)))
    else:
        print("The same: every file and every figure.")
    if found:
        raise typer.Exit(DIFFERENT)


@app.command()
def pack(folder: Folder, out: Out = None, force: Force = False) -> None:
    """Put a bundle into one file, the same bytes whenever it is done; only a whole bundle is packed.

    Example: edgereverie bundle pack bundles/starter-gguf-q8-0
    """
    from edgereverie.bundle import Bundle, packed
    from edgereverie.stages import bytes_passing

    folder = folder.resolve()
    out = out or folder.with_name(folder.name + PACKED)
    with bytes_passing("pack") as progress:
        packed.pack(Bundle.load(folder), out, force=force, progress=progress)
    done(out, f"edgereverie bundle unpack {out}")


@app.command()
def unpack(
    file: Annotated[Path, typer.Argument(help="A file that edgereverie bundle pack made.")],
    out: Out = None,
    force: Force = False,
) -> None:
    """Take a bundle out of its file, each byte checked; what was tampered with leaves nothing behind.

    Example: edgereverie bundle unpack starter-gguf-q8-0.bundle.zip
    """
    from edgereverie.bundle import packed
    from edgereverie.stages import bytes_passing

    out = out or file.with_name(file.name.removesuffix(PACKED).removesuffix(".zip"))
    with bytes_passing("unpack") as progress:
        packed.unpack(file, out, force=force, progress=progress)
    done(out, f"edgereverie bundle check {out}")


def _verdict(parity: Mapping[str, Any]) -> str:
    from edgereverie.stages import verdict

    return verdict(parity)


def _figures(parity: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in parity.items():
        if key not in ("passed", "faults", "tokenization", "scores"):
            yield f"parity: {key}", _short(value)


def _inspected(parity: Mapping[str, Any]) -> dict[str, str]:
    """What was found out about the files besides: how they tokenize, and hallucination scores beside the model's."""
    found = {}
    if told := parity.get("tokenization"):
        found["tokenization"] = f"{told.get('equal', 0)} of {told['strings']} strings as the model's own tokenizer"
    for metric, one in (parity.get("scores") or {"metrics": {}})["metrics"].items():
        found[metric] = f"{_scored(one['bundle'])}, the model {_scored(one['model'])}"
    return found


def _scored(told: Mapping[str, Any]) -> str:
    if told["value"] is None:
        return "n/a"
    return f"{told['value']:.3f} ({told['low']:.3f} to {told['high']:.3f})"


def _promises(bundle: Bundle) -> dict[str, str]:
    """What was calibrated, and each rule in its words; nothing is loaded to read it."""
    if bundle.calibration is None:
        return {"calibration": "none"}
    from edgereverie.runtime.calibration.record import SHOWN, Calibration

    read = Calibration.from_json(bundle.calibration)
    told = {"calibration": f"{read.data}; backend {read.backend}, artefact {read.artefact[:SHOWN]}"}
    for rule in read.rules:
        told[f"rule: {rule.name}, {rule.answers}"] = (
            f"{rule.words} (threshold {rule.threshold:.4f}; {_short(rule.measured)})"
        )
    return told | {f"no rule: {number}": why for number, why in enumerate(read.lacking, 1)}


def _card(bundle: Bundle) -> str:
    """What the card was measured on, and whether it still tells of this bundle."""
    from edgereverie.bundle import carded

    card = carded.read(bundle)
    if card is None:
        return "none; edgereverie eval --card writes one"
    scorers = ", ".join(str(one["scorer"]) for one in card["measured"])
    told = f"{scorers}; told on {card['date']}, guard {card['artefact']['guard']}"
    return f"stale, {why}: {told}" if (why := carded.stale(bundle, card)) else told


def _licences(bundle: Bundle) -> dict[str, str]:
    """Whose licences bind the bundle, by what they are of."""
    found: dict[str, list[str]] = {}
    for one in bundle.made_from.get("licences", ()):
        found.setdefault(f"licence: {one['of']}", []).append(f"{one['name']}: {one['licence']}")
    return {key: "; ".join(values) for key, values in found.items()} or {"licence": "nobody stated one"}


def _short(value: Any) -> str:
    """A value in a table: floats in four digits, sections as their keys and values.

    >>> _short(0.123456), _short({"a": 1, "b": [1, 2]}), _short(None)
    ('0.1235', 'a 1, b 1 2', 'none')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return " ".join(map(_short, value)) or "none"
    return str(value)


def _table(rows: Any, headings: tuple[str, ...] = ()) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=bool(headings), header_style="dim")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for key, *values in rows:
        table.add_row(Text(key, style="dim"), *(Text(value, overflow="fold") for value in values))
    console().print(table)
