"""`etastar tune`, `fit --target` and `transfer --from`, run as a user runs them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from etastar.cli import app
from etastar.cli.tune_command import tuning_lines
from etastar.errors import ModelSpecError
from etastar.sources.stored_optima import read_store, stored_bases
from etastar.sweep.executors import Sequential
from etastar.sweep.recipe import Point
from etastar.sweep.result import Progress
from etastar.sweep.storage import as_store
from etastar.sweep.trial import TrialRecord, run_trial
from etastar.sweep.tune_result import TuneProgress
from etastar.transfer import TransferPlan

OWN = """
import torch
from torch import nn
from etastar import Recipe

def batches(seed, batch_size, num_steps):
    draw = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        inputs = torch.randn(batch_size, 4, generator=draw)
        yield inputs, inputs.sum(1, keepdim=True)

def net(depth):
    return nn.Sequential(*[nn.Linear(4, 4) for _ in range(depth)], nn.Linear(4, 1))

def sgd(model, lr, **size):
    return torch.optim.SGD(model.parameters(), lr)

def recipe(steps=6):
    return Recipe(
        net, lambda seed: batches(seed, 8, steps), nn.functional.mse_loss, sgd, steps, 8
    )
"""
SIZES = ["--bases", "depth=2,3", "--target", "depth=8"]
QUICK = ["--steps", "6", "--batch", "8", "--optimizer", "sgd", "--lr", "0.1"]


def run(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def run_json(*args):
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    return "own.py"


@pytest.fixture
def model(own):
    return ["tune", f"{own}:net", *SIZES, "--data", f"{own}:batches", *QUICK]


def test_tune_writes_the_plan_and_goes_on_where_it_was(model, tmp_path):
    found = run_json(*model)
    assert found["stop"] == "budget"
    assert [one["size"] for one in found["optima"]] == [{"depth": 2}]
    assert found["further"]["size"] == {"depth": 3}
    plan = TransferPlan.load(tmp_path / "plan.json")
    assert plan.lr == found["plan"]["lr"]
    (journal,) = tmp_path.glob("sweep-*.log")
    size = journal.stat().st_size
    more = run_json(*model, "--budget", "100", "--precision", "1.01", "--save", "more.json")
    assert [one["size"] for one in more["optima"]] == [{"depth": 2}, {"depth": 3}]
    assert more["optima"][0] == found["optima"][0]
    assert more["stop"] == "no further size"
    assert journal.stat().st_size > size
    assert TransferPlan.load(tmp_path / "more.json").lr == more["plan"]["lr"]
    assert list(tmp_path.glob("sweep-*.log")) == [journal]


def test_the_table_says_rate_cost_and_what_more_would_cost(model):
    result = run(*model)
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    for part in ("depth=8: lr", "of one target run; stopped: the next size would pass 5.0%"):
        assert part in text
    assert "to know more: depth=3, about" in text
    assert "plan written to plan.json" in result.stderr
    assert "of one target run" in result.stderr  # the progress
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_kill_between_sizes_changes_nothing(model, tmp_path, monkeypatch):
    more = [*model, "--budget", "100", "--precision", "1.01"]
    undisturbed = run_json(*more, "--storage", "undisturbed.log")
    first = sum(trial["num_trials"] for trial in undisturbed["optima"][:1])
    calls = []

    def interrupted(self, recipe, size, points):
        for point in points:
            if len(calls) == first:  # as depth=3 begins
                raise KeyboardInterrupt
            calls.append(point)
            yield run_trial(recipe, size, point)

    with monkeypatch.context() as patch:
        patch.setattr(Sequential, "run", interrupted)
        assert run(*more, "--storage", "runs.log").exit_code == 130
    assert run_json(*more, "--storage", "runs.log") == undisturbed


def test_a_recipe_of_ones_own_is_tuned_and_its_sweep_is_the_same(own):
    given = ["--storage", "runs.log", "--lr", "0.1"]
    found = run_json("tune", f"{own}:recipe", *SIZES, *given)
    swept = run_json("sweep", f"{own}:recipe", "--sizes", "depth=2", *given)
    assert [one["lr"] for one in swept["optima"]] == [one["lr"] for one in found["optima"]]
    assert swept["settings"]["recipe"] == "own.py:recipe"
    args = ["sweep", f"{own}:recipe", "--sizes", "depth=2", "--arg", "steps=7", "--lr", "0.1"]
    assert max(trial["steps"] for trial in run_json(*args)["trials"]) == 7


def test_data_of_ones_own_is_for_measuring_checking_and_transfer_too(own):
    data = ["--data", f"{own}:batches", "--optimizer", "sgd", "--batch", "8"]
    found = run_json("measure", f"{own}:net", "--arg", "depth=2", *data, "--seeds", "1")
    assert found["eta_star"] > 0
    checked = run("check", f"{own}:net", "--sizes", "depth=2,4", *data, "--seeds", "1", "--json")
    assert checked.exit_code in (0, 1)
    assert json.loads(checked.stdout)["num_steps"] == 3
    sizes = ["--base", "depth=2", "--target", "depth=4", "--lr", "0.1"]
    plan = run_json("transfer", f"{own}:net", *sizes, *data, "--law", "measured")
    assert "measured" in plan["law"]


BAD = {
    "a model without data": (["tune", "zoo:mlp", *SIZES], "without --data"),
    "options of a recipe": (
        ["tune", "own.py:recipe", *SIZES, "--steps", "9", "--momentum", "0.5"],
        "own.py:recipe without --data, with --momentum, --steps",
    ),
    "options of a swept recipe": (
        ["sweep", "own.py:recipe", "--sizes", "depth=2", "--optimizer", "sgd"],
        "with --optimizer",
    ),
    "a model without an optimizer": (
        ["tune", "zoo:mlp", *SIZES, "--data", "digits"],
        "without --optimizer",
    ),
    "nonsense for data": (
        ["tune", "own.py:net", *SIZES, "--data", "own.py:sgd", *QUICK],
        "the first batch of own.py:sgd",
    ),
    "a size as a setting": (
        ["tune", "own.py:net", *SIZES, "--data", "own.py:batches", *QUICK, "--arg", "depth=2"],
        "as a size and with --arg",
    ),
    "other names": (
        ["tune", "own.py:recipe", "--bases", "depth=2", "--target", "width=8"],
        "all of the target's names",
    ),
    "no folder": (["tune", "own.py:recipe", *SIZES, "--save", "no/plan.json"], "no/plan.json"),
    "precision": (["tune", "own.py:recipe", *SIZES, "--precision", "1"], "precision=1.0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_exits_with_2_and_one_message_and_makes_no_file(case, own, tmp_path):
    args, message = BAD[case]
    result = run(*args)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
    made = {path.name for path in tmp_path.iterdir()} - {"own.py", "__pycache__"}
    assert made == set()


def test_the_time_that_is_left_is_that_of_the_runs_so_far(capsys, monkeypatch):
    clock = iter([0.0, 30.0, 30.0])
    monkeypatch.setattr("etastar.cli.tune_command.time.monotonic", lambda: next(clock))

    def at(cost):
        size = Progress((("depth", 2),), ())
        return TuneProgress(size, cost, expected=0.05)

    with tuning_lines("runs.log") as show:
        show(at(0.01))  # what an earlier call ran costs this one no time
        show(at(0.02))
    assert "spent 2.0% of one target run, at most about 1:30 min left" in capsys.readouterr().err


def test_the_file_of_the_page_is_tuned(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "guides" / "tuning.md").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.py").write_text(page.split("```python\n")[1].split("```")[0])
    sizes = ["--bases", "depth=2,4", "--target", "depth=16", "--seeds", "1", "--lr", "0.01"]
    of_recipe = run_json("tune", "page.py:recipe", *sizes)
    assert of_recipe["plan"]["optimizer"] == "adamw"
    data = ["--data", "page.py:batches", "--optimizer", "adamw", "--steps", "20", "--batch", "32"]
    assert run_json("tune", "page.py:net", *sizes, *data)["plan"]["lr"] > 0


# --- from a store to a plan -------------------------------------------------------------------


def stored(path, settings, depths=(2, 6), exponent=-1.0):
    """A store of parabolas in log2 lr whose minima follow a power law in depth + 2."""
    with as_store(str(path)) as store:
        store.open(settings)
        for depth in depths:
            size, best = (("depth", depth),), (depth + 2) ** exponent
            store.keep_depth(size, depth + 2)
            points = [Point(best * 2.0**k, seed) for k in (-1, 0, 1) for seed in (0, 1)]
            store.begin(size, points)
            for i, point in enumerate(points):
                noise = 0.0 if i > 1 else (-0.1, 0.1)[i]
                loss = 1.0 + (i // 2 - 1) ** 2 + noise
                store.finish(TrialRecord(size, point, loss, (loss,), False, 1, 3.0))
    return str(path)


ZOO = {
    "model": "zoo:resmlp",
    "model settings": '{"width": 8}',
    "optimizer": "adamw",
    "optimizer options": '{"weight_decay": 0.1}',
    "initialization": "all",
    "budget.num_steps": "100",
    "budget.batch_size": "64",
}


def test_fit_gives_the_rate_of_a_target_with_no_python(tmp_path):
    store = stored(tmp_path / "runs.log", ZOO)
    found = run_json("fit", store, "--target", "depth=48", "--law", "fitted")
    assert found["exponent"] == pytest.approx(-1.0)
    assert found["plan"]["target_depth"] == 50
    # the prior of the exponent, -1.5, gives way to what two sizes say
    assert 50**-1.3 < found["plan"]["lr"] < 50**-0.9
    text = " ".join(run("fit", store, "--target", "depth=48", "--law", "fitted").stdout.split())
    assert "depth=48: lr " in text
    assert "depth^-1.000" in text


def test_fit_of_a_single_size_still_gives_the_rate_of_a_target(tmp_path):
    store = stored(tmp_path / "runs.log", ZOO, depths=(2,))
    assert run("fit", store).exit_code == 2  # no slope
    found = run_json("fit", store, "--target", "depth=14", "--law", "effective-depth")
    assert found["exponent"] is None
    assert found["plan"]["lr"] == pytest.approx(0.25 * (16 / 4) ** -1.5)


def test_transfer_takes_bases_rates_and_their_precision_from_a_store(tmp_path):
    store = stored(tmp_path / "runs.log", ZOO)
    args = ["transfer", "zoo:resmlp", "--from", store, "--target", "depth=48", "--law", "fitted"]
    save = tmp_path / "plan.json"
    found = run_json(*args, "--save", save)
    fitted = run_json("fit", store, "--target", "depth=48", "--law", "fitted")
    assert found["lr"] == fitted["plan"]["lr"]
    base = TransferPlan.load(save).base
    assert (base.depth, base.lr, base.weight_decay) == (8, pytest.approx(1 / 8), 0.1)
    assert (base.batch_size, base.num_steps) == (64, 100)
    assert base.log_lr_sd > 0


def test_networks_of_a_store_have_the_initialization_that_was_swept(tmp_path):
    from etastar.applied import recall

    for rule in ("all", "own"):
        store = stored(tmp_path / f"{rule}.log", {**ZOO, "initialization": rule})
        bases, target, _ = stored_bases(read_store(store), {"depth": 48})
        known = [recall(one.network[0]) for one in (*bases, target)]
        assert [None if one is None else one.residual for one in known] == [
            None if rule == "own" else "all"
        ] * 3


EVIL = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
"""


@pytest.mark.parametrize("key", ["model", "recipe"])
def test_a_store_runs_no_code_that_it_names_for_a_target_either(tmp_path, key):
    (tmp_path / "evil.py").write_text(EVIL)
    plain = {name: text for name, text in ZOO.items() if name != "model"}
    store = stored(tmp_path / "runs.log", {**plain, key: f"{tmp_path}/evil.py:make"})
    result = run("fit", store, "--target", "depth=48")
    assert result.exit_code == 2
    assert "--model" in result.output
    assert not (tmp_path / "ran").exists()


def test_the_store_of_a_recipe_of_ones_own_is_planned_from_where_the_recipe_is_named(own):
    given = ["--storage", "runs.log", "--lr", "0.1"]
    run_json("sweep", f"{own}:recipe", "--sizes", "depth=2,3", *given)
    args = ["--model", f"{own}:recipe", "--target", "depth=8"]
    found = run_json("fit", "runs.log", *args)
    assert found["plan"]["target_depth"] == 9
    other = run("fit", "runs.log", *args, "--optimizer", "adam")
    assert other.exit_code == 2
    assert "'adam' for a recipe" in other.output
    assert "--model own.py:recipe" in run("fit", "runs.log", "--target", "depth=8").output


OWN_OPTIMIZERS = {
    "settings": "torch.optim.AdamW(model.parameters(), lr, betas=(0.8, 0.9), weight_decay=0.3)",
    "groups": (
        "torch.optim.AdamW([{'params': [p for p in model.parameters() if p.ndim == k],"
        " 'weight_decay': 0.1 * (k - 1)} for k in (1, 2)], lr, eps=1e-6)"
    ),
    "another unit of the rate": "torch.optim.SGD(model.parameters(), 10 * lr, momentum=0.5)",
}


@pytest.mark.parametrize("case", OWN_OPTIMIZERS)
def test_a_plan_is_the_same_from_a_recipe_as_it_is_tuned_and_from_its_store(own, case, tmp_path):
    code = OWN.replace("torch.optim.SGD(model.parameters(), lr)", OWN_OPTIMIZERS[case])
    Path(own).write_text(code)
    given = ["--storage", "runs.log", "--lr", "0.01", "--budget", "99", "--precision", "1.001"]
    tuned = run_json("tune", f"{own}:recipe", *SIZES, *given, "--save", "tuned.json")
    goal = ["--target", "depth=8"]
    for name in (f"{own}:recipe", f"./{own}:recipe", f"{tmp_path}/{own}:recipe"):
        assert run_json("fit", "runs.log", "--model", name, *goal)["plan"] == tuned["plan"]
    run_json("transfer", f"{own}:recipe", "--from", "runs.log", *goal, "--save", "carried.json")
    assert Path("carried.json").read_text() == Path("tuned.json").read_text()


def test_a_store_of_a_model_in_a_file_is_planned_from_in_any_folder(model, tmp_path, monkeypatch):
    tuned = run_json(*model, "--storage", "runs.log")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    args = ["--from", "../runs.log", "--target", "depth=8", "--input", "1,4"]
    assert run_json("transfer", "../own.py:net", *args)["lr"] == tuned["plan"]["lr"]
    assert "of the model 'own.py:net'" in run("transfer", "../own.py:sgd", *args).output


BAD_STORES = {
    "another model": (["transfer", "zoo:mlp", "--from", "STORE", "--target", "depth=9"], "zoo:mlp"),
    "a base too": (
        ["transfer", "zoo:resmlp", "--from", "STORE", "--target", "depth=9", "--base", "depth=2"],
        "--from with --base",
    ),
    "what only data takes": (
        ["transfer", "zoo:resmlp", "--from", "STORE", "--target", "depth=9", "--batch", "8"],
        "--from with --batch",
    ),
    "another optimizer": (
        ["fit", "STORE", "--target", "depth=9", "--optimizer", "sgd"],
        "of the optimizer 'adamw', with 'sgd'",
    ),
    "no target of this kind": (["fit", "STORE", "--target", "depth=many"], "depth"),
    "neither": (["transfer", "zoo:mlp", "--target", "depth=9"], "--from STORE"),
    "no rate": (
        ["transfer", "zoo:mlp", "--base", "depth=2", "--target", "depth=9", "--optimizer", "sgd"],
        "transfer without --lr",
    ),
}


@pytest.mark.parametrize("case", BAD_STORES)
def test_what_does_not_go_with_a_store_is_refused(case, tmp_path):
    args, message = BAD_STORES[case]
    store = stored(tmp_path / "runs.log", ZOO)
    result = run(*[store if arg == "STORE" else arg for arg in args])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_a_sweep_under_a_plan_is_no_base(tmp_path):
    store = stored(tmp_path / "runs.log", {**ZOO, "plan law": "complete-p"})
    result = run("fit", store, "--target", "depth=9")
    assert result.exit_code == 2
    assert "sweep without --plan-law" in result.output


def test_a_damaged_setting_is_an_error_of_the_store(tmp_path):
    for key, text in (("budget.num_steps", "many"), ("model settings", "{")):
        store = stored(tmp_path / f"{key}.log", {**ZOO, key: text})
        result = run("fit", store, "--target", "depth=9")
        assert result.exit_code == 2
        assert "restore the store" in result.output


def test_a_model_that_is_not_named_anywhere_is_asked_for(tmp_path):
    plain = {name: text for name, text in ZOO.items() if name != "model"}
    read = read_store(stored(tmp_path / "runs.log", plain))
    with pytest.raises(ModelSpecError, match="--model"):
        stored_bases(read, {"depth": 9})
    assert len(stored_bases(read, {"depth": 9}, model="zoo:resmlp")[0]) == 2
