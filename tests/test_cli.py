"""The command line, run as a user runs it, in this process."""

import json

import pytest
from typer.testing import CliRunner

from etastar.cli import app
from etastar.sweep.executors import Sequential
from etastar.sweep.trial import run_trial
from etastar.transfer import TransferPlan

LAYERS = ["--base", "depth=2", "--target", "depth=4", "--lr", "1", "--optimizer", "sgd"]
SIZES = ["--base", "depth=3", "--target", "depth=12,width=128", "--arg", "context=16"]
GPT = ["transfer", "zoo:gpt", *SIZES, "--lr", "0.1"]

FACTORY = """
import torch
from torch import nn

class Twice(nn.Linear):
    def forward(self, x):
        return super().forward(super().forward(x))

def looped(depth=2):
    return nn.Sequential(nn.Linear(4, 4), Twice(4, 4)), (torch.zeros(1, 4),)

def no_layers():
    return nn.ReLU(), (torch.zeros(1, 4),)

def raising():
    raise RuntimeError("boom")

def other(depth=2):
    layers = [nn.Linear(4, 4), nn.Bilinear(4, 4, 4)] if depth > 2 else [nn.Linear(4, 4)]
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(layers)
        def forward(self, x):
            for layer in self.layers:
                x = layer(x, x) if isinstance(layer, nn.Bilinear) else layer(x)
            return x
    return Net(), (torch.zeros(1, 4),)
"""


def run(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def run_json(*args):
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "models.py"
    path.write_text(FACTORY)
    return path


def test_depth_keys_and_values():
    report = run_json("depth", "zoo:resmlp", "--arg", "depth=4", "--arg", "branch_layers=2")
    assert report["effective_depth"] == 6
    assert report["residual_additions"] == 4
    assert report["path_count"] == 2**4
    assert len(report["path"]) == 6
    assert set(report) >= {
        "longest_path",
        "weight_layers",
        "path_length_moments",
        "layer_path_length_moments",
        "tied",
        "recurrent",
        "unused_parameters",
        "sources",
        "outputs",
        "matrix",
        "capture",
        "seconds",
    }


def test_depth_table_names_the_path():
    result = run("depth", "zoo:mlp", "--arg", "depth=2")
    assert result.exit_code == 0
    assert "effective depth" in result.stdout
    assert "shortest path" in result.stdout


@pytest.mark.parametrize("depth", [6, 24])
def test_blocks_are_one_row_and_json_has_every_step(depth):
    args = ["depth", "zoo:gpt", "--arg", f"depth={depth}", "--arg", "width=16"]
    result = run(*args)
    assert f"blocks.* ({depth})  +, +" in result.stdout
    assert len(result.stdout.splitlines()) <= 30
    assert max(map(len, result.stdout.splitlines())) <= 80
    path = run_json(*args)["path"]
    assert [step["counted_as"] for step in path[1:-1]] == ["residual addition"] * 2 * depth


def test_moments_stay_exact_in_json():
    report = run_json("depth", "zoo:resmlp", "--arg", "depth=100", "--arg", "branch_layers=1")
    assert report["path_count"] == 2**100
    assert report["layer_path_length_moments"][1] == 2 * 2**100 + 100 * 2**99


def test_transfer_json_and_saved_plan(tmp_path):
    path = tmp_path / "plan.json"
    summary = run_json(*GPT, "--optimizer", "adamw", "--weight-decay", "0.1", "--save", path)
    assert summary["base_depth"] == 8
    assert summary["target_depth"] == 26
    plan = TransferPlan.load(path)
    assert summary["lr"] == plan.lr
    assert [group["lr"] for group in summary["groups"]] == [group.lr for group in plan.groups]
    assert summary["lr_interval"] == list(plan.lr_interval)
    assert summary["why"] == plan.why != ""
    assert [entry["name"] for entry in summary["parameters"]] == [p.name for p in plan.parameters]
    assert [entry["lr"] for entry in summary["parameters"]] == [p.lr for p in plan.parameters]


def test_transfer_with_the_law_alone():
    args = ["transfer", "zoo:resmlp", "--base", "depth=2", "--target", "depth=14", "--lr", "0.1"]
    summary = run_json(*args, "--optimizer", "sgd", "--law", "effective-depth")
    assert summary["lr"] == pytest.approx(0.1 * (16 / 4) ** -1.5)
    assert run_json(*args, "--optimizer", "sgd", "--law", "constant")["lr"] == 0.1


def test_transfer_reads_batch_and_steps_beside_the_sizes():
    sizes = ["--base", "depth=2,batch=8,steps=200", "--target", "depth=4,batch=64,steps=500"]
    args = ["transfer", "zoo:gpt", *sizes, "--lr", "0.1", "--optimizer", "adamw", "--json"]
    laws = [option for law in ("constant", "batch-size", "duration") for option in ("--law", law)]
    found = json.loads(CliRunner().invoke(app, [*args, *laws]).stdout)
    assert found["lr"] == pytest.approx(0.1 * 0.4**0.5)
    assert found["groups"][0]["betas"] == pytest.approx([0.96, 0.9996])
    plain = json.loads(CliRunner().invoke(app, [*args, "--law", "constant"]).stdout)
    assert plain["lr"] == 0.1
    assert plain["notes"][0].startswith("batch size 8 to 64: no law of this plan corrects for it")


@pytest.mark.parametrize("wrong", ["batch=0", "steps=1.5", "batch=many"])
def test_transfer_refuses_what_is_no_batch_and_no_steps(wrong):
    sizes = ["--base", f"depth=2,{wrong}", "--target", "depth=4"]
    done = CliRunner().invoke(
        app, ["transfer", "zoo:gpt", *sizes, "--lr", "0.1", "--optimizer", "adamw"]
    )
    assert done.exit_code == 2
    assert {"batch": "batch_size", "steps": "num_steps"}[wrong[:5]] in done.stderr


def test_transfer_says_where_there_is_no_decay():
    sizes = ["--base", "depth=1,width=16", "--target", "depth=2,width=16", "--arg", "context=4"]
    decayed = ["transfer", "zoo:gpt", *sizes, "--lr", "0.1", "--optimizer", "adamw"]
    decayed += ["--law", "constant", "--weight-decay", "0.1"]

    def off(*options):
        data = json.loads(run(*decayed, *options, "--json").stdout)
        return {p["role"] for p in data["parameters"] if p["weight_decay"] == 0}

    assert off() == {"bias", "norm"}
    assert off("--no-decay", "embedding", "--no-decay", "*.bias") == {"embedding", "bias"}
    assert off("--no-decay", "none") == set()
    assert "no_decay='norms'" in run(*decayed, "--no-decay", "norms").output


def test_transfer_table_lists_groups():
    result = run(*GPT, "--optimizer", "muon", "--aux-lr", "0.003", "--law", "depth-mup")
    assert result.exit_code == 0, result.output
    assert "depth-mup" in result.stdout


BAD = {
    "unknown form": (["depth", "nothing"], "MODEL 'nothing'"),
    "unknown zoo model": (["depth", "zoo:nothing"], "one of: mlp"),
    "factory raises": (["depth", "FILE:raising"], "RuntimeError: boom"),
    "no weight layers": (["depth", "FILE:no_layers"], "no weight layer"),
    "wrong shapes": (["depth", "zoo:mlp", "--input", "2,5"], "aten.addmm.default"),
    "wrong rank": (["depth", "zoo:resnet", "--input", "5"], "forward pass"),
    "unknown argument": (["depth", "zoo:mlp", "--arg", "size=3"], "size"),
    "lr of zero": ([*GPT[:-1], "0", "--optimizer", "sgd"], "lr=0"),
    "negative lr": ([*GPT[:-1], "-1", "--optimizer", "sgd"], "lr=-1"),
    "lr that is no number": ([*GPT[:-1], "nan", "--optimizer", "sgd"], "lr=nan"),
    "unknown law": ([*GPT, "--optimizer", "sgd", "--law", "warp"], "law 'warp'"),
    "laws that exclude each other": (
        [*GPT, "--optimizer", "adam", "--law", "complete-p", "--law", "effective-depth"],
        "complete-p",
    ),
    "recurrent": (
        ["transfer", "FILE:looped", *LAYERS],
        "1.weight",
    ),
    "different architecture": (
        ["transfer", "FILE:other", *LAYERS],
        "layers.1.weight",
    ),
    "unwritable plan": (
        [*GPT, "--optimizer", "sgd", "--save", "/nowhere/plan.json"],
        "/nowhere/plan.json",
    ),
}


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.replace(" ", "-"))
def test_bad_input_exits_with_2_and_one_message(case, file):
    args, message = BAD[case]
    result = run(*(a.replace("FILE", str(file)) for a in args))
    assert result.exit_code == 2
    assert message in result.output
    assert "what to do:" in result.output
    assert "Traceback" not in result.output


SWEEP = ["sweep", "zoo:mlp", "--sizes", "depth=1,3", "--data", "digits", "--optimizer", "sgd"]
BRIEF = ["--steps", "8", "--batch", "16", "--arg", "width=8"]
SHORT = [*BRIEF, "--lr", "0.1"]


def test_sweep_continues_and_fit_reads_its_store(tmp_path):
    store = str(tmp_path / "runs.log")
    first = run_json(*SWEEP, *SHORT, "--storage", store)
    assert [found["size"] for found in first["optima"]] == [{"depth": 1}, {"depth": 3}]
    assert set(first["optima"][0]) >= {"lr", "interval", "flags", "steps"}
    assert sum(found["steps"] for found in first["optima"]) == sum(
        trial["steps"] for trial in first["trials"]
    )
    size = (tmp_path / "runs.log").stat().st_size
    again = run_json(*SWEEP, *SHORT, "--storage", store)
    assert again["trials"] == first["trials"]
    assert (tmp_path / "runs.log").stat().st_size < 1.2 * size  # nothing was run twice

    fitted = run_json("fit", store)
    assert [found["depth"] for found in fitted["optima"]] == [2.0, 4.0]
    assert [found["lr"] for found in fitted["optima"]] == [f["lr"] for f in first["optima"]]
    assert "depth^" in run("fit", store).stdout


def test_without_a_store_each_experiment_has_a_journal_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*SWEEP, *SHORT)
    (journal,) = tmp_path.iterdir()
    assert f"runs are kept in {journal.name}" in result.stderr
    before = journal.stat().st_size
    search = ["--lrs", "0.1,0.2"]  # another goes on there
    assert run(*SWEEP, *BRIEF, *search).exit_code == 0
    assert list(tmp_path.iterdir()) == [journal]
    assert journal.stat().st_size > before
    run(*SWEEP, *SHORT, "--momentum", "0.9")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_store_of_another_experiment_is_refused(tmp_path):
    store = ["--storage", str(tmp_path / "runs.log")]
    assert run(*SWEEP, *SHORT, *store).exit_code == 0
    result = run(*SWEEP, *SHORT, *store, "--momentum", "0.9")
    assert result.exit_code == 2
    assert "momentum" in result.output


def test_ctrl_c_keeps_the_store_and_says_so(tmp_path, monkeypatch):
    store = tmp_path / "runs.log"
    calls = []

    def interrupted(self, recipe, size, points):
        for point in points:
            if len(calls) == 3:
                raise KeyboardInterrupt
            calls.append(point)
            yield run_trial(recipe, size, point)

    with monkeypatch.context() as patch:
        patch.setattr(Sequential, "run", interrupted)
        result = run(*SWEEP, *SHORT, "--storage", store)
    assert result.exit_code == 130
    assert "stopped by Ctrl-C" in result.output
    undisturbed = run_json(*SWEEP, *SHORT, "--storage", str(tmp_path / "undisturbed.log"))
    assert run_json(*SWEEP, *SHORT, "--storage", store)["optima"] == undisturbed["optima"]


def test_a_sweep_without_a_rate_starts_where_the_criterion_says(tmp_path):
    store = ["--storage", str(tmp_path / "runs.log")]
    found = run_json(*SWEEP, *BRIEF, *store)
    args = ["--arg", "depth=1", "--arg", "width=8", "--data", "digits", "--batch", "16"]
    kind = ["--optimizer", "sgd", "--seeds", "2", "--pre-activations", "layers"]
    measured = run_json("measure", "zoo:mlp", *args, *kind)
    lrs = {t["lr"] for t in found["trials"] if t["size"] == {"depth": 1}}
    assert float(f"{measured['eta_star']:.2g}") in lrs
    assert run_json(*SWEEP, *BRIEF, *store)["trials"] == found["trials"]


def test_a_sweep_under_a_plan_is_another_experiment_with_its_optima_at_the_base_rate(tmp_path):
    store = ["--storage", str(tmp_path / "runs.log")]
    plan = ["--plan-law", "effective-depth", "--base", "depth=1"]
    rates = ["--lrs", "0.05,0.1,0.2", "--seeds", "1"]
    planned = run_json(*SWEEP, *BRIEF, *rates, *plan, *store)
    assert planned["settings"]["plan base"] == '{"depth": 1}'
    assert run(*SWEEP, *BRIEF, *rates, *store).exit_code == 2
    plain = run_json(*SWEEP, *BRIEF, *rates, *store[:1], str(tmp_path / "b.log"))
    losses = [[t["loss"] for t in found["trials"]] for found in (planned, plain)]
    assert losses[0][:3] == pytest.approx(losses[1][:3], rel=1e-6)  # at the base nothing changes
    assert losses[0][3:] != pytest.approx(losses[1][3:], rel=1e-3)


def test_the_storage_may_come_from_the_environment_and_its_password_is_nowhere(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("ETASTAR_STORAGE", "postgresql+psycopg2://me:hunter2@127.0.0.1:1/none")
    monkeypatch.chdir(tmp_path)
    for command in ([*SWEEP, *SHORT], ["fit"]):
        result = run(*command)
        assert result.exit_code == 2
        assert "127.0.0.1:1" in result.output
        assert "hunter2" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_in_which_everything_diverges_exits_with_1(tmp_path):
    rates = ["--lrs", "1e30,1e35"]
    store = ["--storage", str(tmp_path / "runs.log")]
    for _ in range(2):  # run, and read from the store
        result = run(*SWEEP, *BRIEF, *rates, *store, "--json")
        assert result.exit_code == 1
        assert "no optimum at any size" in result.stderr
        assert [one["lr"] for one in json.loads(result.stdout)["optima"]] == [None, None]
    assert run(*SWEEP, *SHORT, *store).exit_code == 0


BAD_SWEEPS = {
    "sizes": ([*SWEEP[:3], "deep", *SWEEP[4:]], "depth=3,6,12"),
    "data": ([*SWEEP[:5], "numbers", *SWEEP[6:]], "numbers"),
    "optimizer": ([*SWEEP[:-1], "lamb"], "lamb"),
    "lr": ([*SWEEP, "--lrs", "0.1", "--lr", "0.1"], "leave --lr and"),
    "rates": ([*SWEEP, "--lrs", "a"], "a finite number above 0"),
    "a search of rates": ([*SWEEP, "--lrs", "0.1", "--max-trials", "5"], "the rates of a grid"),
    "max trials": ([*SWEEP, "--max-trials", "abc"], "as an integer"),
    "workers": ([*SWEEP, "--workers", "1.5"], "as an integer"),
    "executor": ([*SWEEP, "--executor", "cloud"], "cloud"),
    "ray": ([*SWEEP, "--ray-address", "127.0.0.1:1"], "--executor ray"),
    "device": ([*SWEEP, "--device", "nowhere"], "nowhere"),
    "objective": ([*SWEEP, "--objective", "best"], "best"),
    "init": ([*SWEEP, "--init", "some"], "some"),
    "momentum": ([*SWEEP, "--momentum", "inf"], "momentum=inf"),
    "seeds": ([*SWEEP, "--seeds", "0"], "seeds=0"),
    "steps": ([*SWEEP, "--steps", "0"], "num_steps=0"),
    "size": ([*SWEEP[:3], "depth=99999999999999999999", *SWEEP[4:], "--lr", "1"], "9" * 20),
    "setting": ([*SWEEP, "--arg", "depth=2"], "as a size and with --arg"),
    "plan without base": ([*SWEEP, "--plan-law", "complete-p"], "--base depth=2"),
    "base without plan": ([*SWEEP, "--base", "depth=2"], "--plan-law"),
    "base": ([*SWEEP, "--plan-law", "complete-p", "--base", "width=2"], "a base of width"),
    "full": ([*SWEEP, "--storage", "/dev/full"], "no ordinary file"),
    "store": (["fit", "/nowhere/runs.log"], "/nowhere/runs.log"),
}


@pytest.mark.parametrize("case", BAD_SWEEPS)
def test_bad_sweeps_exit_with_2_and_one_message(case, tmp_path, monkeypatch):
    args, message = BAD_SWEEPS[case]
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
