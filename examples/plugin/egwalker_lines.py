"""Documents of kind "lines": texts that are merged line by line, as source code often is.

Each line is one element. Where two people change one line, both of their lines stay, one after the other.
"""

from collections.abc import Callable
from typing import Any

from egwalker import ContentError, hookimpl
from egwalker.plugins.list import List
from egwalker.types import SequenceType


class Lines(List):
    """The content is a list of `str`, one for each line, without line breaks."""

    name = "lines"

    def pack(self, content: Any) -> list[str]:
        packed = super().pack(content)
        for line in content:
            if not isinstance(line, str) or "\n" in line:
                raise ContentError(f"a line is a str without line breaks, not {line!r:.80}")
        return packed


@hookimpl
def register_document_types(register: Callable[[SequenceType], None]) -> None:
    register(Lines())
