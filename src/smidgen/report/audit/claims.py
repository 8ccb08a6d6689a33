"""Read the numbers of parameters that a page states."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["total", "trainable", "non-trainable", "optimizer"]
"""Keras counts what its optimizer stores as parameters after training."""

NUMBER = r"[0-9]{1,3}(?:[,_][0-9]{3}){1,4}|[0-9]{1,15}"
_EXACT = rf"(?:{NUMBER})(?![0-9]|[.,_][0-9]|\s?[kKmM%]\b)"
_TOTAL = re.compile(
    r"(?:grand\s+|the\s+)?(?P<total>total\s+)?(?:number\s+of\s+)?(?P<kind>(?:(?:non-?)?trainable|optimizer)\s+)?"
    rf"param(?:eter)?s?\b[\s:=]*(?P<count>{_EXACT})",
    re.IGNORECASE,
)
_SUM = re.compile(rf"(?P<total>total|sum)[\s:=]+(?P<count>{_EXACT})$", re.IGNORECASE)
_CLAIM = re.compile(
    rf"(?<![0-9.,_])({_EXACT})\s+(?:(?:trainable|total|learnable|model)\s+)*param(?:eter)?s\b"
    rf"|\bparam(?:eter)?s?(?:\s+count)?\s*(?:[:=]|is\b|are\b)\s*({_EXACT})",
    re.IGNORECASE,
)
# Near one of these, a number does not claim to be the size of the page's network.
_NO_CLAIM = re.compile(
    r"[<>≤≥~≈±]|\b(?:under|below|less|fewer|lower|most|max\w*|up\s+to|limit\w*|budget\w*|within|over"
    r"|above|more|least|min\w*|about|around|approx\w*|roughly|nearly|almost|than|target\w*|goal"
    r"|constraint\w*|from|by|sav\w+|reduc\w+|instead|was|were|had|before|previous\w*|earlier|old"
    r"|first|baseline|compar\w+|vs|versus|unlike|layers?|conv\w*|blocks?|kernels?|norms?|linear"
    r"|unused|never|each|per|only)\b",
    re.IGNORECASE,
)
_AROUND = 40  # characters before and after a claim that are searched for _NO_CLAIM


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """A stated number of parameters."""

    line: int
    """From 1."""
    kind: Kind
    """Which parameters it counts."""
    count: int
    """As stated."""
    is_claim: bool = True
    """Whether it counts where it stands apart from a table; not if it is a bound."""


def read_total(plain: str, line: int, in_rows: bool) -> Total | None:
    """The total that a line begins with; a row "Total" counts only below other rows."""
    found = _TOTAL.match(plain) or (_SUM.match(plain) if in_rows else None)
    which = ((found.groupdict().get("kind") or "") if found else "").lower()
    if found is None or not (which or found["total"]):
        return None
    kinds: dict[str, Kind] = {"": "total", "non": "non-trainable", "opt": "optimizer"}
    kind = kinds.get(which[:3], "trainable")
    is_claim = not _NO_CLAIM.search(plain[found.end() :][:_AROUND])
    return Total(line=line, kind=kind, count=to_count(found["count"]), is_claim=is_claim)


def read_claims(lines: Sequence[str], near: Collection[int]) -> list[Total]:
    """The numbers of parameters in the text of some lines: exact, not round, not a bound."""
    claims = []
    for number in sorted(near):
        line = lines[number - 1]
        for found in _CLAIM.finditer(line):
            around = line[max(0, found.start() - _AROUND) : found.end() + _AROUND]
            count = to_count(found[1] or found[2])
            if count >= 1000 and count % 500 and not _NO_CLAIM.search(around):
                claims.append(Total(line=number, kind="total", count=count))
    return claims


def to_count(text: str) -> int:
    """A number with or without separators, such as "6,850"."""
    return int(re.sub(r"[,_]", "", text))
