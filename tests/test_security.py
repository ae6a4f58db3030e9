"""The security page names a test for each of its sentences; the tests are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_test_is_there(file, name):
    assert f"\ndef {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_every_sentence_on_what_is_read_written_or_sent_names_one():
    held = PAGE.split("## Trusted")[1].split("## Not covered")[0]
    sentences = re.findall(r"^- (.*?)(?=^- |^## |\Z)", held, flags=re.DOTALL | re.MULTILINE)
    assert len(sentences) > 12
    assert [one for one in sentences if "::" not in one and "hf:NAME" not in one] == []
