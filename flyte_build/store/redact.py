"""Keeps secrets out of what a user reads."""

from __future__ import annotations

import re

_SECRETS = (
    (re.compile(r"\?[^\s\"'`<>)]*"), ""),
    (re.compile(r"(?<=://)[^\s/@]*:[^\s/@]*@"), "***@"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{8,}\b"), "***"),
    (re.compile(r"(?i)\b((?:x-amz-)?(?:signature|credential|security-token|sig))=[^\s&,;]+"), r"\1=***"),
)


def redact(text: str) -> str:
    """`text` without the queries of URLs, passwords in URLs, access keys and signatures."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
