"""`law="auto"`: kinds of networks, the choice from a table, and the plan that tells of it."""

import json
from pathlib import Path

import pytest
import torch.nn.functional as F

from etastar.errors import LawError
from etastar.models import build, example_inputs
from etastar.optimizers import optimizer_kind
from etastar.transfer import Measure, Tuned, auto, plan_transfer, read_architecture
from etastar.transfer.auto import CANDIDATES, network_kind

TABLE = {
    "chain, SGD": {
        "without a batch": {"rule": "effective-depth", "why": "auto: effective-depth, and why"},
    },
    "residual, longer branches, Adam": {
        "without a batch": {"rule": "structure", "why": "auto: structure"},
        "with a batch": {"rule": "measured", "why": "auto: measured for the kind"},
    },
}


def network(name, depth=2, **settings):
    settings = {"depth": depth, "width": 16} | settings
    return build(name, **settings), example_inputs(name, **settings)


@pytest.fixture
def _table(monkeypatch):
    monkeypatch.setattr(auto, "_stored_choices", lambda: TABLE)


@pytest.mark.parametrize(
    ("name", "settings", "optimizer", "kind"),
    [
        ("mlp", {}, "sgd", "chain, SGD"),
        ("cnn2d", {}, "adamw", "chain, Adam"),
        ("resnet", {}, "sgd", "residual, one-layer branches, SGD"),
        ("resmlp", {"branch_layers": 2}, "sgd", "residual, longer branches, SGD"),
        ("gpt", {}, "muon", "residual, longer branches, Adam"),
    ],
)
def test_the_kind_is_read_off_the_graph(name, settings, optimizer, kind):
    for depth in (1, 4):
        found = read_architecture(network(name, depth, **settings))
        assert network_kind(found, optimizer_kind(optimizer)) == kind


@pytest.mark.usefixtures("_table")
@pytest.mark.parametrize("law", ["auto", ["auto"], ("auto",)])
def test_the_plan_follows_the_choice_and_says_why(law):
    nets = network("mlp", 3), network("mlp", 15)
    plan = plan_transfer(Tuned(nets[0], 0.8), nets[1], optimizer="sgd", law=law)
    same = plan_transfer(Tuned(nets[0], 0.8), nets[1], optimizer="sgd", law="effective-depth")
    assert plan.parameters == same.parameters
    assert plan.laws == same.laws
    assert "auto: effective-depth, and why" in str(plan)


@pytest.mark.usefixtures("_table")
def test_a_batch_to_measure_on_makes_measured_a_candidate():
    nets = network("gpt", 1), network("gpt", 2)
    without = plan_transfer(Tuned(nets[0], 0.01), nets[1], optimizer="adamw", law="auto")
    assert without.laws[0].name == "structure"
    tokens = nets[0][1][0]

    def loss(scores, targets):
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten())

    measure = Measure((tokens, tokens.roll(-1, 1)), loss)
    plan = plan_transfer(
        Tuned(nets[0], 0.01), nets[1], optimizer="adamw", law="auto", measure=measure
    )
    assert "measured" in [record.name for record in plan.laws]
    assert "auto: measured for the kind" in plan.notes[0]
    assert plan.notes[1].startswith("measured: eta*")


@pytest.mark.usefixtures("_table")
def test_bases_are_evidence_of_their_own():
    tuned = [Tuned(network("mlp", depth), lr) for depth, lr in ((2, 0.4), (4, 0.1))]
    plan = plan_transfer(tuned, network("mlp", 8), optimizer="sgd", law="auto")
    assert plan.laws[0].name == "fitted"
    assert plan.notes[0].startswith("auto: several tuned networks")


def test_auto_goes_with_no_other_law():
    nets = network("mlp", 2), network("mlp", 4)
    with pytest.raises(LawError, match="law 'auto' together with 'constant'"):
        plan_transfer(Tuned(nets[0], 0.1), nets[1], optimizer="sgd", law=["auto", "constant"])


def test_the_table_of_the_package_has_its_format_and_an_answer_for_every_kind():
    stored = json.loads((Path(auto.__file__).parent / auto.TABLE).read_text())
    assert stored.keys() == {"format", "kinds"}
    assert stored["format"] == auto.TABLE_FORMAT
    structures = ("chain", "residual, one-layer branches", "residual, longer branches")
    assert set(stored["kinds"]) == {f"{s}, {o}" for s in structures for o in ("SGD", "Adam")}
    for kind, choices in stored["kinds"].items():
        assert choices["without a batch"]["rule"] in CANDIDATES
        assert choices["with a batch"]["rule"] in {*CANDIDATES, "measured"}
        for choice in choices.values():
            assert choice["why"].startswith(f"auto: {choice['rule']} for the kind '{kind}'")


@pytest.mark.parametrize("head", ["", '"format": 1, '])
def test_a_table_of_another_format_is_refused(monkeypatch, tmp_path, head):
    (tmp_path / auto.TABLE).write_text(f'{{{head}"kinds": {{}}}}')
    monkeypatch.setattr(auto.resources, "files", lambda name: tmp_path)
    with pytest.raises(LawError, match="format 2"):
        auto._stored_choices.__wrapped__()
