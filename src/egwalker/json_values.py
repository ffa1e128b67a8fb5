"""JSON values as documents keep them: as texts that say the same everywhere."""

import json
import math
from typing import Any

from egwalker.cycore.errors import ContentError

MAX_DEPTH = 200
"""How deep a value may be nested. Python's own limit depends on how deep its caller is nested already; this
one is far enough from it for every process to be able to read what another one wrote."""

ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
"""Made once: `json.dumps` makes another one for each value."""
SORTED = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
"""The same for values whose keys may be in any order."""


def to_json(value: Any, what: str) -> str:
    """The JSON text of a value; `ContentError`, naming it by `what`, if there is none."""
    return there_and_back(value, what)[0]


def there_and_back(value: Any, what: str, encoder: json.JSONEncoder = ENCODER) -> tuple[str, Any]:
    """The JSON text of a value, and a copy of the value; `ContentError`, naming it by `what`.

    There is none for what JSON cannot say or would say differently: other types, tuples and keys that are no
    strings within a value, NaN and infinities, lone surrogates, nesting deeper than `MAX_DEPTH`.
    """
    try:
        text = encoder.encode(value)
        text.encode()
        back = json.loads(text) if isinstance(value, (list, tuple, dict)) else value
    except UnicodeEncodeError as error:
        reason = f"it holds the lone surrogate U+{ord(error.object[error.start]):04X}"
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    else:
        if back != value:
            reason = f"{value!r} would come back as {back!r}"
        elif too_deep(text, value):
            reason = f"it is nested more than {MAX_DEPTH} deep"
        else:
            return text, back
    raise ContentError(f"{what} is not a JSON value: {reason}")


def from_json(text: str) -> Any:
    """The value of a text from elsewhere. `ValueError` for what JSON cannot say, and what is too deep."""
    try:
        value = json.loads(text, parse_constant=finite, parse_float=finite)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if too_deep(text, value):
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    return value


def finite(text: str) -> float:
    """A number that JSON has: Python reads more, and some as infinity."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number in JSON")
    return value


def too_deep(text: str, value: Any) -> bool:
    """Whether the value of a JSON text is nested deeper than `MAX_DEPTH`."""
    return text.count("[") + text.count("{") > MAX_DEPTH and depth(value) > MAX_DEPTH


def depth(value: Any) -> int:
    """How deep lists and dicts are nested in `value`. O(size)."""
    found = -1
    level = [value]
    while level:
        found += 1
        containers = [item for item in level if isinstance(item, (list, dict))]
        level = [part for item in containers for part in (item.values() if isinstance(item, dict) else item)]
        found += bool(containers and not level)
    return found
