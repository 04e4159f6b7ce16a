"""YAML becomes a checked model, or one error that lists every fault with its line.

PyYAML follows YAML 1.1, where ``no`` is false, ``2e-4`` is text and ``0755`` is octal. Here a plain word is null, true,
false, a decimal number, or text; ``yes``, ``no``, ``on`` and ``off`` are refused, because nobody knows which was meant.
Anchors and tags are refused too: what stands in the file is what runs.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from edgereverie.errors import RecipeError
from edgereverie.registry import did_you_mean

Key = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

CONFLICT = "conflict"  # type of the PydanticCustomError that names several keys: ctx {"keys": [["steps"], ["epochs"]]}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]{0,30})")
_NUMBER = re.compile(r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_AMBIGUOUS = {"yes", "no", "on", "off"}
_TAGS = {"null", "bool", "int", "float", "str", "timestamp", "value", "map", "seq", "merge"}
_AFTER_THE_FILE = 1 << 30
_WORDS = {
    "a valid ": "a ",
    "an object": "a section of keys",
    "a array": "a list",
    "a string": "text",
    "a integer": "an integer",
}


class Place(NamedTuple):
    """Where a value stands: its line, by which faults are ordered, and how a message says it."""

    order: int
    text: str


class Fault(NamedTuple):
    place: Place
    text: str


class StrictModel(BaseModel):
    """Base of every section: frozen, no unknown keys, no silent conversion, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Document:
    """A YAML text as plain values, where each of them stands, and what was wrong with the text itself."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.places: dict[Key, Place] = {}
        self.faults: list[Fault] = []
        self.broken: list[
            Key
        ] = []  # keys whose values could not be read: what a model says about them is beside the point
        self._seen: set[int] = set()
        self.value: Any = self._read(text, lambda line: Place(line, f"{name}:{line}"), ())
        if not isinstance(self.value, dict):
            if not self.faults:
                found = "nothing" if self.value is None else _short(self.value)
                self._fault(Place(1, f"{name}:1"), (), f"the file should hold keys and values (got {found}).")
            self.broken.append(())
            self.value = {}

    def override(self, setting: str) -> None:
        """Apply ``train.learning_rate=1e-4``; a number in the path counts into a list (``data.train.0.share=2``)."""
        place = Place(_AFTER_THE_FILE, f"--set {setting}")
        path, equals, text = setting.partition("=")
        key: Key = tuple(int(part) if part.isdecimal() else part for part in path.strip().split("."))
        if not equals or "" in key:
            self._fault(place, (), "a setting reads section.key=value, such as train.learning_rate=1e-4.")
            return
        target = self.value
        for depth, part in enumerate(key[:-1], 1):
            if isinstance(target, dict) and target.get(part) is None:
                target[part] = {}
                self.places[key[:depth]] = place
            inside = _inside(target, part)
            if not isinstance(inside, (dict, list)):
                self._fault(place, (), f"{_dotted(key[:depth])} is {_short(inside)}, and holds no {key[depth]!r}.")
                return
            target = inside
        if isinstance(target, list) and _inside(target, key[-1]) is None:
            self._fault(place, (), f"{_dotted(key[:-1])} is a list of {len(target)}, counted from 0.")
            return
        self.places = {known: at for known, at in self.places.items() if known[: len(key)] != key}
        target[key[-1]] = self._read(text, lambda _: place, key)
        self.places[key] = place

    def place(self, key: Key) -> Place:
        """Where this key stands, or the nearest section around it that stands anywhere."""
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key) or Place(1, f"{self.name}:1")

    def _fault(self, place: Place, key: Key, text: str) -> None:
        self.faults.append(Fault(place, f"{_dotted(key)}: {text}" if key else text))

    def _read(self, text: str, place: Callable[[int], Place], key: Key) -> Any:
        self._seen.clear()
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            return None if node is None else self._plain(node, place, key)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = str(error.problem or error.context)
            if r"'\t'" in problem:
                problem = "a tab stands where YAML wants blanks"
            self._fault(place(mark.line + 1 if mark else 1), (), f"not valid YAML: {problem}.")
        except yaml.YAMLError as error:  # an unprintable character: this one error has a position, but no line
            line = text.count("\n", 0, getattr(error, "position", 0)) + 1
            self._fault(place(line), (), f"not valid YAML: {getattr(error, 'reason', error)}.")
        except RecursionError:
            self._fault(place(1), (), "nested too deeply.")
        self.broken.append(key)
        return None

    def _plain(self, node: yaml.Node, place: Callable[[int], Place], key: Key) -> Any:
        where = self.places.setdefault(key, place(node.start_mark.line + 1))
        refusal = None
        if id(node) in self._seen:
            refusal = "anchors and aliases are not read here. Write the value out."
        elif node.tag.removeprefix("tag:yaml.org,2002:") not in _TAGS:
            refusal = f"the tag {node.tag!r} is not read here. Remove it."
        elif isinstance(node, yaml.ScalarNode) and node.style is None and node.value.lower() in _AMBIGUOUS:
            refusal = (
                f'{node.value!r} may mean true, false or the word. Write true or false, or "{node.value}" in quotes.'
            )
        self._seen.add(id(node))
        if refusal:
            self._fault(where, key, refusal)
            self.broken.append(key)
            return None
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(child, place, (*key, i)) for i, child in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place, key)
        return _scalar(node.value) if node.style is None else node.value

    def _mapping(self, node: yaml.MappingNode, place: Callable[[int], Place], key: Key) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for word, child in node.value:
            where = place(word.start_mark.line + 1)
            if not isinstance(word, yaml.ScalarNode):
                self._fault(where, key, "a key should be a word.")
            elif word.value in found:
                first = self.places[(*key, word.value)].text
                self._fault(where, (*key, word.value), f"stands here a second time; the first is {first}.")
            else:
                self.places[(*key, word.value)] = where
                found[word.value] = self._plain(child, place, (*key, word.value))
        return found


def load_model(
    path: Path,
    model: type[Model],
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    context: Mapping[str, Any] | None = None,
) -> Model:
    """Read ``path`` as ``model``. name: how messages call the file. context: handed to the model's validators.

    Raises RecipeError whose message has one line for each fault, in the order of the file.
    """
    name = name or str(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"{name}: cannot be read ({error}).", hint="It should be a YAML text file in UTF-8."
        ) from None
    document = Document(name, text)
    for setting in overrides if () not in document.broken else ():
        document.override(setting)
    faults = document.faults
    try:
        checked = model.model_validate_json(json.dumps(document.value), context=context)
    except ValidationError as error:
        faults = faults + _model_faults(document, model, error, context)
    if faults:
        ordered = sorted(faults, key=lambda fault: fault.place.order)
        raise RecipeError("\n".join(dict.fromkeys(f"{fault.place.text}: {fault.text}" for fault in ordered)))
    return checked


def _model_faults(
    document: Document, model: type[BaseModel], error: ValidationError, context: Mapping[str, Any] | None
) -> list[Fault]:
    """Every fault that the model finds.

    pydantic compares keys with each other only where each of them is valid by itself. So what is wrong is taken away
    and the rest is asked again; of the second answer only comparisons count that touch nothing which was wrong.
    """
    errors = [
        found
        for found in error.errors(include_url=False)
        # A default that is made from another key: what is wrong with that key is told there.
        if found["type"] != "default_factory_not_called" and not _overlaps(found["loc"], document.broken)
    ]
    wrong = [*document.broken, *(found["loc"] for found in errors if found["type"] != CONFLICT)]
    rest = json.loads(json.dumps(document.value))
    for key in wrong:
        _remove(rest, key)
    try:
        model.model_validate_json(json.dumps(rest), context=context)
    except ValidationError as second:
        known = [found["loc"] for found in errors]
        for found in second.errors(include_url=False):
            if found["type"] == CONFLICT and found["loc"] not in known:
                errors.append(found)
    errors = [found for found in errors if not any(_overlaps(key, wrong) for key in _conflict_keys(found))]
    return [_fault_of(document, model, found) for found in errors]


def _overlaps(key: Key, others: Sequence[Key]) -> bool:
    """Whether the key is one of the others, lies in one, or holds one."""
    return any(key[: len(other)] == other[: len(key)] for other in others)


def _fault_of(document: Document, model: type[BaseModel], found: Any) -> Fault:
    """pydantic's error as one sentence that begins with the key."""
    key, kind, value = tuple(found["loc"]), found["type"], found.get("input")
    if kind == CONFLICT:
        keys = _conflict_keys(found)
        stands = next((other for other in keys if other in document.places), key)
        return Fault(document.place(stands), f"{', '.join(map(_dotted, keys))}: {found['msg']}")
    if kind == "extra_forbidden":
        near, _, known = did_you_mean(str(key[-1]), _fields(model, key[:-1])).partition("Known:")
        text = f"unknown key. {near or f'Known:{known}'}".rstrip()
    elif kind == "missing":
        text = "is required, and missing."
    elif kind == "value_error":
        text = str(found["ctx"]["error"])
    else:
        text = found["msg"].removeprefix("Input ")
        for pydantic_word, word in _WORDS.items():
            text = text.replace(pydantic_word, word)
        text = f"{text} (got {_short(value)})."
        if kind == "string_type" and isinstance(value, (int, float)):
            text += " Put it in quotes."
        if kind == "literal_error" and isinstance(value, str):
            near = did_you_mean(value, re.findall(r"'([^']+)'", found["ctx"]["expected"]))
            text = f"{text} {near.partition('Known:')[0]}".rstrip()
    return Fault(document.place(key), f"{_dotted(key)}: {text}")


def _conflict_keys(found: Any) -> list[Key]:
    return [(*found["loc"], *key) for key in found.get("ctx", {}).get("keys", [])]


def _fields(model: type[BaseModel], key: Key) -> list[str]:
    """Names of the keys that are known at ``key``."""
    for part in key:
        if isinstance(part, str) and part in model.model_fields:
            inner = next(_models(model.model_fields[part].annotation), None)
            if inner is None:
                return []
            model = inner
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (tuple, list, Union, types.UnionType):
        for inner in get_args(annotation):
            yield from _models(inner)


def _inside(value: Any, part: str | int) -> Any:
    """What the section or list holds under ``part``, or None."""
    try:
        return value[part]
    except (KeyError, IndexError, TypeError):
        return None


def _remove(value: Any, key: Key) -> None:
    for part in key[:-1]:
        value = _inside(value, part)
    if isinstance(value, dict):
        value.pop(key[-1] if key else None, None)


def _scalar(text: str) -> Any:
    """A plain word's value.

    >>> [_scalar(word) for word in ("2e-4", "12", "true", "null", "0755", "1:30", "starter")]
    [0.0002, 12, True, None, '0755', '1:30', 'starter']
    """
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    if _NUMBER.fullmatch(text) and not re.match(r"[-+]?0[0-9]", text):
        return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _dotted(key: Key) -> str:
    return ".".join(map(str, key))


def _short(value: Any) -> str:
    """A value as the person wrote it, or what kind of thing it is."""
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
