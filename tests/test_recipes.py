"""Every recipe and export profile that ships is valid, and says what it is."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgereverie.recipe import Recipe, load_recipe, shipped, shipped_recipes
from edgereverie.shipped import shipped_profiles

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FAMILIES = {"llava-phi3": "llava_phi3", "llava15": "llava15", "moe-llava": "moe_llava"}
PUBLISHED = [name for name in shipped_recipes() if not name.startswith("starter/")]
PLANNED = re.compile(
    r"# Planned for ((\d+) GB \([^)]+\)), not measured on a card: ([\d.]+) GB at the peak, about (\d+) hours?[ .,a-z]*"
    r" Never run on real weights\."
)


def header(name: str) -> list[str]:
    lines = (shipped("recipes") / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("#")]


def commands(name: str) -> list[list[str]]:
    """The commands of a header as words, without ``edgereverie``."""
    found = [line[1:].strip() for line in header(name)]
    return [shlex.split(line, comments=True)[1:] for line in found if line.startswith("edgereverie ")]


def test_there_are_some() -> None:
    assert "starter/reverie" in shipped_recipes()
    assert shipped_profiles()


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_is_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name
    assert set(recipe.export.profiles) <= set(shipped_profiles())


@pytest.mark.parametrize("name", shipped_recipes())
def test_its_header_holds_the_command_that_runs_it(name: str) -> None:
    lines = (shipped("recipes") / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    header = [line for line in lines if line.startswith("#")]
    assert lines[0].startswith("# "), "the first line says what the recipe is; `recipes list` shows it"
    # A recipe for one's own data is copied first, to fill in the paths.
    commands = (f"edgereverie train {name}", f"edgereverie recipes copy {name} ")
    assert any(command in line for line in header for command in commands)


@pytest.mark.parametrize("name", shipped_recipes())
def test_its_header_begins_with_a_sentence_and_its_own_command(name: str) -> None:
    first = header(name)[0]
    assert re.match(r"# [A-Z].*[a-z0-9'][.](?: |$)", first), first
    runs = [words for words in commands(name) if words[0] in ("train", "recipes")]
    assert runs[0][:2] == ["train", name] or runs[0][:3] == ["recipes", "copy", name]


@pytest.mark.parametrize("name", shipped_recipes())
def test_what_its_header_says_to_type_is_valid(name: str) -> None:
    """Recipes that it names are there, and every ``--set`` changes a key that is there to a value that is allowed."""
    from edgereverie.data.catalogue import catalogue

    settings = [word for line in header(name) for word in re.findall(r"--set (\S+=\S+?)[,.;)]*(?= |$)", line)]
    for words in commands(name):
        if words[0] == "train" and words[1] in shipped_recipes():
            load_recipe(words[1], [word for at, word in enumerate(words) if words[at - 1] == "--set"])
        elif words[0] == "train":
            assert words[1].endswith(".yaml"), words
        elif words[:2] == ["data", "get"]:
            assert set(words[2:]) <= set(catalogue())
        elif words[0] == "merge":
            assert words[1].removeprefix("runs/") in {load_recipe(one).name for one in shipped_recipes()}
    for setting in settings:
        load_recipe(name, [setting])


def test_the_list_shows_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    from edgereverie.cli.recipes import list_

    list_()
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert listed == {name: header(name)[0].lstrip("# ") for name in shipped_recipes()}


def test_each_family_has_each_method() -> None:
    for family in FAMILIES:
        files = {name.removeprefix(f"{family}/") for name in PUBLISHED if name.startswith(f"{family}/")}
        assert {re.sub(r"-\d+gb$", "", file) for file in files} == {"reverie", "lrv", "povid-text", "povid", "csr"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_model_is_of_its_family(name: str) -> None:
    """A published one, or the merged result of a recipe beside it."""
    from edgereverie.backbones._catalogue import catalogue

    family, model = name.partition("/")[0], load_recipe(name).backbone.model
    runs = {f"runs/{load_recipe(one).name}/merged" for one in PUBLISHED if one.startswith(f"{family}/")}
    known = {one.id for one in catalogue() if one.backbone == FAMILIES[family]}
    assert model in known | runs and model != f"runs/{load_recipe(name).name}/merged"


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_data_are_where_data_get_puts_them(name: str) -> None:
    """In the folder of a catalogue entry: one of its files, or one that a command of the header writes there."""
    from edgereverie.data.catalogue import item

    written = [words[words.index("--out") + 1] for words in commands(name) if "--out" in words]
    for source in load_recipe(name).data.train:
        data, entry, file = source.path.parts
        assert data == "data"
        assert file in {one.path for one in item(entry).files} or source.path.as_posix() in written


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings_are_kept(name: str) -> None:
    """REVERIE: 128 conversations a step at 2e-4. POVID and CSR: one pair a step, beta 0.1, 1e-7, or as much rate times steps;
    POVID's noise of step 500; CSR's five beams of diversity 3 and 70 tokens, weight 0.9. All: LoRA's alpha twice its rank.
    """
    train = load_recipe(name).train
    step = train.batch_size * train.accumulation
    assert train.lora.alpha == 2 * train.lora.rank and train.warmup == 0.03 and train.schedule == "cosine"
    if train.method == "reflective":
        assert (step, train.learning_rate, train.epochs) == (128, 2e-4, 1)
        return
    assert (step, train.preference.beta) == (1, 0.1)
    if train.method == "povid":
        epochs = {"text": 3, "noise": 1}[train.povid.stage]
        assert (train.learning_rate, train.epochs, train.povid.step, train.povid.loss) == (1e-7, epochs, 500, "repo")
        return
    csr = train.csr
    assert train.learning_rate * csr.prompts == pytest.approx(1e-7 * 12_856, rel=0.01)
    assert (csr.beams, csr.diversity, csr.sentence_tokens, csr.characters, csr.weight) == (5, 3.0, 70, 1024, 0.9)


# Their plans


@pytest.fixture(scope="module")
def planning() -> ModuleType:
    path = BENCHMARKS / "plan.py"
    if not path.is_file():
        pytest.skip("the benchmarks are not here")
    spec = importlib.util.spec_from_file_location("benchmarks_plan", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def plans(planning: ModuleType) -> dict[str, Any]:
    return json.loads(planning.RESULTS.read_text(encoding="utf-8"))


def test_all_of_them_were_planned_as_they_are(planning: ModuleType, plans: dict[str, Any]) -> None:
    """Else: python benchmarks/plan.py NAME."""
    assert {name: found["train_sha256"] for name, found in plans.items()} == {
        name: planning.fingerprint(load_recipe(name)) for name in PUBLISHED
    }
    assert {name: found["model"] for name, found in plans.items()} == {
        name: planning.published(name) for name in PUBLISHED
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_header_tells_the_plan_for_its_card(name: str, plans: dict[str, Any]) -> None:
    found = [PLANNED.fullmatch(line) for line in header(name)]
    (machine_name, card, peak, hours), *others = [match.groups() for match in found if match]
    assert not others and name.endswith(f"-{card}gb")
    machine = next(one for one in plans[name]["machines"] if one["name"] == machine_name)
    assert machine["fits"] and machine["room_bytes"] == int(card) * 2**30
    assert peak == f"{machine['estimate']['peak_bytes'] / 2**30:.1f}"
    assert int(hours) == max(1, round(machine["estimate"]["seconds"] / 3600))


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_can_be_planned_on_its_model_with_two_layers(name: str, planning: ModuleType, tmp_path: Path) -> None:
    """The method takes the data, and the adapter reaches the linears that arithmetic on the config counts; gates of experts,
    4 for each of 2,048 channels, train whole beside it.
    """
    pytest.importorskip("torch")
    pytest.importorskip("peft")
    from edgereverie.backbones._sizes import adapter_parameters
    from edgereverie.registry import METHODS
    from edgereverie.tuning.plan import Planner, named_card

    recipe, folder = load_recipe(name), _shallow(planning.hollow(planning.published(name)))
    records, _ = _few(planning, recipe)
    planning.pictures_of(records, tmp_path / "images")
    made = Planner(recipe, METHODS.get(recipe.train.method), folder, records, tmp_path / "images")
    parts = made.estimate(recipe, named_card(24, "auto")).parts
    gates = 4 * 2048 if folder.backbone.name == "moe_llava" else 0
    counted = adapter_parameters(folder.config, folder.backbone.adapter_targets, recipe.train.lora.rank)
    assert parts["adapter"] == 4 * (counted + gates)


def _few(planning: ModuleType, recipe: Recipe) -> tuple[list[Any], int]:
    before, planning.PICTURES = planning.PICTURES, 2
    try:
        return planning.records_of(recipe)
    finally:
        planning.PICTURES = before


def _shallow(folder: Any) -> Any:
    """The folder's model with two layers, experts in the first where there are any, and a tower of three."""
    config = dict(folder.config)
    config["text_config"] = config["text_config"] | {"num_hidden_layers": 2, "vocab_size": 512}
    config["vision_config"] = config["vision_config"] | {"num_hidden_layers": 3}
    if "moe" in config:
        config["moe"] = config["moe"] | {"moe_layers_idx": [0], "num_experts": [4]}
    return replace(folder, described=replace(folder.described, config=config))


def test_names_of_runs_do_not_collide() -> None:
    names = [load_recipe(name).name for name in shipped_recipes()]
    assert len(set(names)) == len(names)


def test_an_installed_package_finds_its_own_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "edgereverie"
    (package / "_recipes" / "starter").mkdir(parents=True)
    (package / "_recipes" / "starter" / "mine.yaml").write_text("name: mine\n")
    monkeypatch.setattr("edgereverie.shipped._PACKAGE", package)
    assert shipped("recipes") == package / "_recipes"
    assert shipped_recipes() == ["starter/mine"]
    assert shipped("export") == tmp_path / "export"
