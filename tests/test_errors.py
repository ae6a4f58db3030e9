"""Errors: three parts, picklable; code of others raises one of ours."""

import pickle
import warnings

import pytest

from etastar import errors
from etastar.errors import (
    EtastarError,
    EtastarWarning,
    MissingExtraError,
    ModelSpecError,
    TrialError,
    cause_of,
    foreign_errors_as,
)

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, EtastarError) and kind is not MissingExtraError
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_errors_have_three_parts_and_survive_another_process(kind):
    error = kind("this", "that", "do")
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert str(one).splitlines() == ["received: this", "expected: that", "what to do: do"]
        assert type(one) is kind


def test_a_missing_extra_names_itself_after_pickling():
    error = pickle.loads(pickle.dumps(MissingExtraError("ray", "ray")))
    assert (error.package, error.extra) == ("ray", "ray")


def test_every_error_is_one_a_caller_of_python_expects():
    assert all(issubclass(kind, (ValueError, TypeError, OSError)) for kind in KINDS[1:])


def test_warnings_of_ours_can_be_told_from_others():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", EtastarWarning)
        warnings.warn("lost", EtastarWarning, stacklevel=1)
        with pytest.raises(UserWarning):
            warnings.warn("other", UserWarning, stacklevel=1)


class Odd(BaseException):
    """What is no `Exception`."""


@pytest.mark.parametrize(
    "raised", [ValueError("a\nb"), SystemExit(0), GeneratorExit(), StopIteration(3), Odd("x")]
)
def test_whatever_other_code_raises_is_one_of_ours(raised):
    with (
        pytest.raises(TrialError, match=r"received: f\(\): \w+: (a|0|no message|3|x)\n") as caught,
        foreign_errors_as(TrialError, "f()", "a run", "mend f"),
    ):
        raise raised
    assert caught.value.__cause__ is raised
    assert caught.value.received == f"f(): {cause_of(raised)}"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("bad 'width':\n    ValueError: 33 is odd\nmore", "bad 'width': ValueError: 33 is odd"),
        ("while loading:\n\n  in part:\n  no file", "while loading: in part: no file"),
        ("\nfirst\nsecond:", "first"),
        ("expected:", "expected:"),
    ],
)
def test_a_line_that_announces_the_next_one_is_followed_by_it(message, said):
    assert cause_of(RuntimeError(message)) == f"RuntimeError: {said}"


@pytest.mark.parametrize("raised", [ModelSpecError("a", "b", "c"), KeyboardInterrupt()])
def test_errors_of_ours_and_ctrl_c_pass(raised):
    with (
        pytest.raises((ModelSpecError, KeyboardInterrupt)) as caught,
        foreign_errors_as(TrialError, "f()", "a run", "mend f"),
    ):
        raise raised
    assert caught.value is raised


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, 'pip install "etastar[hf]"'),
        (
            '{"url": "file:///a/b", "dir_info": {"editable": true}}',
            'pip install -e "file:///a/b[hf]"',
        ),
        ('{"url": "file:///a/b", "dir_info": {}}', 'pip install "etastar[hf] @ file:///a/b"'),
        (
            '{"url": "https://host/x.git", "vcs_info": {"vcs": "git", "commit_id": "1"}}',
            'pip install "etastar[hf] @ git+https://host/x.git"',
        ),
    ],
)
def test_what_installs_an_extra_names_an_index_only_where_it_came_from_one(
    origin, command, monkeypatch
):
    class Installed:
        def read_text(self, name):
            assert name == "direct_url.json"
            return origin

    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Installed())
    assert MissingExtraError("transformers", "hf").action == command


def test_what_installs_an_extra_of_a_source_folder(monkeypatch):
    from importlib.metadata import PackageNotFoundError

    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", absent)
    assert MissingExtraError("transformers", "hf").action.startswith('pip install ".[hf]"')
