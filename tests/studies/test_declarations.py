"""The named experiments: declared at all scales, run at the smallest."""

import pickle
from dataclasses import replace

import pytest

from studies.declaration import CriterionFamily
from studies.experiments.registry import EXPERIMENTS
from studies.reproduce import run_study
from studies.running import Workplace

NAMES = tuple(EXPERIMENTS)
SCALES = ("smoke", "cpu", "paper")


def families(study):
    return [getattr(one, "family", one) for one in study.families]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_a_declaration_is_fixed_hashable_and_can_be_sent_to_other_processes(name, scale):
    study = EXPERIMENTS[name](scale)
    assert (study.name, study.scale) == (name, scale)
    assert EXPERIMENTS[name](scale) == study
    for family in families(study):
        assert pickle.loads(pickle.dumps(family)) == family
        assert hash(pickle.loads(pickle.dumps(family.network))) == hash(family.network)
        assert family.settings == pickle.loads(pickle.dumps(family)).settings


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_stores_tell_the_families_of_a_study_apart(name, scale):
    study = EXPERIMENTS[name](scale)
    stored = [family.name.replace("/", ":") for family in families(study)]
    assert len(set(stored)) == len(stored)


@pytest.mark.parametrize("name", ["resnet", "transformer", "cnn1d", "cnn2d", "mlp-trained"])
def test_rates_are_transferred_from_the_smallest_to_eight_times_deeper(name):
    for family in families(EXPERIMENTS[name]("cpu")):
        depths = [dict(size)["depth"] for size in family.targets]
        first = dict(family.bases[0])["depth"]
        assert {4, 8} <= {depth / first for depth in depths}


def test_joint_targets_are_four_times_as_wide_and_eight_times_as_deep():
    for family in families(EXPERIMENTS["joint"]("cpu")):
        ratios = [
            {name: value / dict(family.bases[0])[name] for name, value in target}
            for target in family.targets
        ]
        assert {"depth": 8.0, "width": 4.0} in ratios


def few_rules(family):
    """The rules that measure have tests of their own, and take their time."""
    if isinstance(family, CriterionFamily) or family.rules is not None:
        return family
    return replace(family, rules=("constant", "fitted-2"))


@pytest.mark.parametrize("name", NAMES)
def test_the_first_family_runs_at_the_smallest_scale(name):
    study = EXPERIMENTS[name]("smoke")
    chosen = few_rules(study.families[0])
    evidence = run_study(replace(study, families=(chosen,), claims=()), Workplace())
    family, found = getattr(chosen, "family", chosen), evidence.families[0]
    assert [one.size for one in found.sizes] == list(family.sizes)
    assert all(one.optimum is not None for one in found.sizes)
    assert [fit.axis for fit in found.fits] == list(family.axes)
    if not isinstance(chosen, CriterionFamily):
        assert {row.target for row in found.regrets} == set(family.targets)
        assert all(len(one.trials) == 3 * len(family.seeds) for one in found.sizes)
