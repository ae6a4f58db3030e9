"""Types that several layers share."""

from __future__ import annotations

from typing import Any, Union

__all__ = ["JSON"]

JSON = Union[None, bool, int, float, str, "list[Any]", "dict[str, Any]"]
