"""Hugging Face data sets, on small ones built here."""

import sys

import numpy as np
import pytest
import torch

from etastar.datasets import load
from etastar.errors import MissingExtraError, ModelSpecError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _quiet():
    datasets.disable_progress_bars()


def pixels(number, *, size=4, channels=3, seed=0):
    shape = (number, size, size, channels) if channels > 1 else (number, size, size)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def image_set(images, labels, *, label="label", names=("cat", "dog", "emu"), image="img"):
    kind = datasets.ClassLabel(names=list(names)) if names else datasets.Value("int64")
    features = datasets.Features({image: datasets.Image(), label: kind})
    return datasets.Dataset.from_dict({image: list(images), label: list(labels)}, features=features)


def text_set(texts, *, column="text", **more):
    return datasets.Dataset.from_dict({column: list(texts), **more})


@pytest.fixture
def served(monkeypatch):
    """Makes `datasets.load_dataset` give what the test says, and records how it was called."""
    calls = []

    def serve(**splits):
        def load_dataset(name, config, *, streaming):
            calls.append((name, config, streaming))
            found = datasets.DatasetDict(splits)
            if not streaming:
                return found
            return datasets.IterableDatasetDict(
                {split: rows.to_iterable_dataset() for split, rows in found.items()}
            )

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return calls

    return serve


def test_images_saved_to_disk_come_back_standardized_with_their_labels(tmp_path):
    train, test = pixels(6), pixels(2, seed=1)
    saved = datasets.DatasetDict(
        train=image_set(train, [0, 1, 2, 0, 1, 2]), test=image_set(test, [2, 0])
    )
    saved.save_to_disk(str(tmp_path / "set"))
    data = load(f"hf:{tmp_path / 'set'}")
    raw, raw_test = (torch.from_numpy(part).permute(0, 3, 1, 2).double() for part in (train, test))
    mean, std = raw.mean((0, 2, 3), keepdim=True), raw.std((0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(data.train_inputs, ((raw - mean) / std).float())
    torch.testing.assert_close(data.test_inputs, ((raw_test - mean) / std).float())
    assert (data.task, data.num_classes) == ("classification", 3)
    assert data.train_targets.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.test_targets.tolist() == [2, 0]


def test_the_name_and_the_config_reach_the_hub(served):
    calls = served(train=image_set(pixels(4), [0] * 4), test=image_set(pixels(2), [0] * 2))
    assert load("hf:someone/things", config="small").name == "hf:someone/things"
    assert calls == [("someone/things", "small", False)]


def test_grey_images_have_one_channel_and_a_colour_one_gives_all_three(served):
    grey = image_set(pixels(3, channels=1), [0, 1, 0])
    served(train=grey, test=grey)
    assert load("hf:x").train_inputs.shape == (3, 1, 4, 4)
    mixed = image_set([*pixels(1), *pixels(2, channels=1)], [0, 1, 0])
    served(train=mixed, test=mixed)
    assert load("hf:x").train_inputs.shape == (3, 3, 4, 4)


def test_a_class_without_examples_still_counts(served):
    two_of_three = image_set(pixels(3), [0, 1, 0])
    served(train=two_of_three, test=two_of_three)
    assert load("hf:x").num_classes == 3


def test_images_of_several_sizes_need_a_size(served):
    mixed = image_set([*pixels(2), *pixels(1, size=6)], [0, 1, 0])
    served(train=mixed, test=mixed)
    with pytest.raises(ModelSpecError, match="give size"):
        load("hf:x")
    assert load("hf:x", size=5).train_inputs.shape == (3, 3, 5, 5)


def test_splits_of_other_shapes_are_refused(served):
    served(train=image_set(pixels(2), [0, 1]), test=image_set(pixels(2, size=6), [0, 1]))
    with pytest.raises(ModelSpecError, match="same shape in both"):
        load("hf:x")


def test_without_a_test_split_every_tenth_example_is_kept_for_it(served):
    served(train=image_set(pixels(20), range(20), names=[], label="labels"))
    data = load("hf:x")
    assert data.test_targets.tolist() == [9, 19]
    assert data.num_classes == 20
    assert 9 not in data.train_targets.tolist()
    assert len(data.train_targets) == 18


def test_a_validation_split_serves_as_test_unless_one_is_named(served):
    parts = {name: image_set(pixels(2), [n] * 2) for n, name in enumerate(["validation", "extra"])}
    served(train=image_set(pixels(3), [0, 1, 2]), **parts)
    assert load("hf:x").test_targets.tolist() == [0, 0]
    assert load("hf:x", test_split="extra").test_targets.tolist() == [1, 1]
    with pytest.raises(ModelSpecError, match="one of: train, validation, extra"):
        load("hf:x", test_split="test")


@pytest.mark.parametrize("streaming", [False, True])
def test_fewer_examples_are_drawn_at_random_and_the_same_again(served, streaming):
    sorted_set = image_set(pixels(40), [0] * 20 + [1] * 20)
    calls = served(train=sorted_set, test=image_set(pixels(4), [0, 1, 0, 1]))
    options = {"max_examples": 10, "streaming": streaming}
    data = load("hf:x", **options)
    assert calls[-1][-1] is streaming
    assert (len(data.train_inputs), len(data.test_inputs)) == (10, 4)
    assert set(data.train_targets.tolist()) == {0, 1}
    again = load("hf:x", **options)
    assert torch.equal(data.train_inputs, again.train_inputs)


def test_more_examples_than_there_are_means_all(served):
    served(train=image_set(pixels(4), [0, 1, 2, 0]), test=image_set(pixels(2), [0, 1]))
    assert len(load("hf:x", max_examples=100).train_inputs) == 4


def test_of_two_label_columns_none_is_guessed(served):
    names = datasets.ClassLabel(names=["a", "b"])
    features = datasets.Features({"img": datasets.Image(), "fine": names, "coarse": names})
    columns = {"img": list(pixels(2)), "fine": [0, 1], "coarse": [1, 1]}
    both = datasets.Dataset.from_dict(columns, features=features)
    served(train=both, test=both)
    with pytest.raises(ModelSpecError, match="one column out of: fine, coarse"):
        load("hf:x")
    assert load("hf:x", label_column="coarse").train_targets.tolist() == [1, 1]
    with pytest.raises(ModelSpecError, match="label_column='none'"):
        load("hf:x", label_column="none")


def test_hidden_labels_are_refused(served):
    served(train=image_set(pixels(2), [0, 1]), test=image_set(pixels(2), [-1, -1], names=[]))
    with pytest.raises(ModelSpecError, match="label -1"):
        load("hf:x")


def test_text_is_joined_and_cut_into_windows(served):
    served(train=text_set(["abc", "defg"]), test=text_set(["hé"]))
    data = load("hf:x", context=2)
    assert [bytes(row) for row in data.train_inputs.tolist()] == [b"ab", b"\nd", b"fg"]
    assert [bytes(row) for row in data.train_targets.tolist()] == [b"bc", b"de", b"g\n"]
    assert bytes(data.test_inputs.flatten().tolist()) == "hé".encode()[:2]
    assert (data.task, data.num_classes) == ("language modelling", 256)


def test_no_more_text_is_taken_than_asked_for(served):
    served(train=text_set(["x" * 50] * 100), test=text_set(["y" * 50] * 100))
    data = load("hf:x", context=9, num_bytes=1000)
    assert data.train_inputs.shape == (100, 9)
    assert data.test_inputs.shape == (10, 9)


def test_text_without_a_test_split_keeps_every_tenth_window(served):
    served(train=text_set(["x" * 1000]))
    data = load("hf:x", context=9)
    assert (len(data.train_inputs), len(data.test_inputs)) == (90, 10)


def test_the_text_column_is_the_only_one_or_the_one_called_text(served):
    rows = text_set(["question"] * 9, column="q", text=["the text"] * 9)
    served(train=rows, test=rows)
    assert bytes(load("hf:x", context=8).train_inputs[0].tolist()) == b"the text"
    assert bytes(load("hf:x", context=8, text_column="q").train_inputs[0].tolist()) == b"question"
    rows = text_set(["question"] * 9, column="q", answer=["an answer"] * 9)
    served(train=rows, test=rows)
    with pytest.raises(ModelSpecError, match="one column out of: q, answer"):
        load("hf:x")
    rows = datasets.Dataset.from_dict({"number": [1, 2]})
    served(train=rows, test=rows)
    with pytest.raises(ModelSpecError, match="none fits"):
        load("hf:x")


def test_what_the_hub_raises_is_told_in_three_parts(monkeypatch):
    def load_dataset(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ModelSpecError, match=r"hf:a/b: ConnectionError: no network") as caught:
        load("hf:a/b")
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[hf\]"):
        load("hf:a/b")
