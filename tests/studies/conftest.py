"""A small study on synthetic data."""

from dataclasses import replace

import pytest
from etastar.sweep.search.grid import Grid

from studies.declaration import Budget, Data, Family, Study, ladder, options
from studies.initialization import StableInit
from studies.network import ZooNetwork
from studies.protocol import SGD
from studies.records import Claim


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
