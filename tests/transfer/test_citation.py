"""BibTeX of what a plan used."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from etastar import Tuned, cite, plan_transfer
from etastar.errors import PlanError
from etastar.laws import LAWS, Fitted, Measured, Width
from etastar.transfer import PAPERS_OF_LAWS, InitializationRecord, TransferPlan

DEFINITIONS = Path(__file__).parents[2] / "docs" / "definitions.md"
KEYS = dict(
    re.findall(r"^\[(\w+)\] arXiv (\d+\.\d+)", DEFINITIONS.read_text(), re.MULTILINE)
)  # the papers, by the keys that docstrings cite
ENTRY = re.compile(r"@misc\{arxiv\.([\d.]+),\n((?:  \w+ = \{.*\},\n)+)\}\n")


def papers(text):
    return [number for number, _ in ENTRY.findall(text)]


def plan(law, *, width="mup"):
    def chain(depth):
        return nn.Sequential(*(nn.Linear(4, 4) for _ in range(depth))), torch.zeros(1, 4)

    return plan_transfer(Tuned(chain(2), 0.1), chain(5), optimizer="sgd", law=law, width=width)


def blocks(depth):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(4, 8), nn.Linear(8, 4)

        def forward(self, x):
            return x + self.outer(torch.relu(self.inner(x)))

    return nn.Sequential(*(Block() for _ in range(depth)), nn.Linear(4, 1)), torch.zeros(1, 4)


def test_without_a_plan_every_paper_of_the_definitions_is_cited_once():
    text = cite()
    assert len(KEYS) == 10
    assert sorted(papers(text)) == sorted(KEYS.values())
    assert "".join(ENTRY.sub("", text).split()) == ""
    for _, fields in ENTRY.findall(text):
        assert re.findall(r"^  (\w+)", fields, re.MULTILINE) == [
            "author", "title", "year", "eprint", "archiveprefix", "url",
        ]  # fmt: skip
        assert fields.count("{") == fields.count("}")


@pytest.mark.parametrize("law", [*LAWS.values(), Measured, Fitted, Width], ids=lambda law: law.name)
def test_a_law_cites_the_keys_that_its_docstring_names(law):
    _, _, source = law.__doc__.partition("Source:")
    named = set(re.findall(r"\[(\w+)\]", source))
    assert named <= set(KEYS)
    assert set(PAPERS_OF_LAWS[law.name]) == named


def test_a_plan_cites_its_depth_its_laws_and_no_others():
    narrow = plan("path-sum", width="none")
    assert papers(cite(narrow)) == [KEYS[key] for key in ("WU", "CH", "AM")]
    own = replace(narrow, initialization=InitializationRecord("own"))
    assert papers(cite(own)) == [KEYS["WU"], KEYS["CH"]]  # nothing was drawn with 1/K
    assert papers(cite(plan("path-sum"))) == [KEYS[k] for k in ("WU", "CH", "TP5", "CP", "AM")]


def test_a_law_with_a_multiplier_has_no_branch_initialization():
    found = plan_transfer(Tuned(blocks(2), 0.1), blocks(6), optimizer="adamw", law="depth-mup")
    assert found.initialization.residual == "none"
    assert papers(cite(found)) == [KEYS[key] for key in ("WU", "TP6", "TP5", "CP")]


def test_a_plan_from_a_file_cites_the_same(tmp_path):
    made = plan("structure")
    made.save(tmp_path / "plan.json")
    assert cite(TransferPlan.load(tmp_path / "plan.json")) == cite(made)


def test_a_law_of_ones_own_is_said_to_be_unknown():
    made = plan("constant")
    text = made.to_json().replace('"constant"', '"mine"')
    assert "% no paper is known for the law mine\n" in cite(TransferPlan.from_json(text))
    assert "%" not in cite(made)


def test_no_plan_is_refused():
    with pytest.raises(PlanError, match="a str in place of a plan"):
        cite("plan.json")
