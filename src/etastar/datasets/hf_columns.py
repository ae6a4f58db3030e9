"""Which columns of a Hugging Face data set hold images, labels or text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etastar.errors import ModelSpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ImageColumns", "find_image_columns", "find_text_column", "holds_images"]


@dataclass(frozen=True)
class ImageColumns:
    """Where the examples of an image set are.

    Attributes:
        image: Column of the images.
        label: Column of the labels.
        num_classes: As the data set states it; None for plain integers.
    """

    image: str
    label: str
    num_classes: int | None


def holds_images(features: Mapping[str, Any]) -> bool:
    """Whether any column holds images.

    Args:
        features: Type of each column, as `datasets` describes it.

    Returns:
        True if one does.
    """
    return bool(_columns_of(features, "Image"))


def find_image_columns(
    features: Mapping[str, Any], *, image_column: str | None, label_column: str | None
) -> ImageColumns:
    """The image and the label column; none is guessed where several would do.

    Args:
        features: Type of each column.
        image_column: The caller's choice, or None.
        label_column: The caller's choice, or None.

    Returns:
        The two columns.

    Raises:
        ModelSpecError: A column is not there, or is to be chosen by the caller.
    """
    labels = _columns_of(features, "ClassLabel") or [
        name for name in ("label", "labels") if name in features
    ]
    image = _chosen(features, "image_column", image_column, _columns_of(features, "Image"))
    label = _chosen(features, "label_column", label_column, labels)
    return ImageColumns(image, label, getattr(features[label], "num_classes", None))


def find_text_column(features: Mapping[str, Any], *, text_column: str | None) -> str:
    """The text column: the only column of strings, or the one called "text".

    Args:
        features: Type of each column.
        text_column: The caller's choice, or None.

    Returns:
        Its name.

    Raises:
        ModelSpecError: It is not there, or is to be chosen by the caller.
    """
    strings = [
        name
        for name, feature in features.items()
        if getattr(feature, "dtype", None) in ("string", "large_string")
    ]
    return _chosen(features, "text_column", text_column, ["text"] if "text" in strings else strings)


def _columns_of(features: Mapping[str, Any], kind: str) -> list[str]:
    return [name for name, feature in features.items() if type(feature).__name__ == kind]


def _chosen(
    features: Mapping[str, Any], option: str, choice: str | None, candidates: Iterable[str]
) -> str:
    found = list(candidates) if choice is None else [choice]
    if len(found) == 1 and found[0] in features:
        return found[0]
    raise ModelSpecError(
        f"{option}={choice!r} for a data set with columns {', '.join(features)}",
        f"one column out of: {', '.join(found if choice is None else features) or 'none fits'}",
        f"name it with {option}",
    )
