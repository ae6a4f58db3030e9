"""A small study on synthetic data."""

from dataclasses import replace

import pytest

from etastar.experiments.declaration import Data, Family, Study, ladder, options
from etastar.experiments.initialization import StableInit
from etastar.experiments.network import ZooNetwork
from etastar.experiments.protocol import SGD
from etastar.report.evidence import Claim
from etastar.sweep.search.grid import Grid
from etastar.sweep.space import Budget


def _family(**changes):
    sizes = ladder([1, 2, 4])
    family = Family(
        name="small, 1/K",
        group="small",
        network=ZooNetwork("resmlp", options(width=8)),
        data=Data("teacher", options(num_train=64, num_test=8)),
        optimizer=SGD,
        budget=Budget(4, 8),
        sizes=sizes,
        bases=sizes[:2],
        targets=sizes[2:],
        search=Grid((0.02, 0.1, 0.5)),
        seeds=(0, 1),
        initialization=StableInit(),
        rules=("constant", "effective-depth", "fitted-2"),
    )
    return replace(family, **changes)


def _study(*families):
    return Study(
        name="small",
        title="A small study",
        papers=("[X] arXiv 0000.00000",),
        scale="smoke",
        families=families or (_family(),),
        claims=(Claim("it falls", "[X]", "small, 1/K", -1.5),),
        notes=("A note.",),
    )


@pytest.fixture
def small_family():
    """Makes a family that trains in a moment; arguments replace its fields."""
    return _family


@pytest.fixture
def small_study():
    """Makes a study of such families."""
    return _study
