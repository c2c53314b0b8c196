"""Remove credentials from text."""

import os
import re
from urllib.parse import unquote

HIDDEN = "***"
_IN_URL = re.compile(r"(?P<before>[A-Za-z][A-Za-z0-9+.\-]*://[^\s:/@'\"]*:)[^\s/@'\"]+(?=@)")
# Up to the last @: SQLAlchemy takes passwords that hold a slash or an @ as they are.
_OF_A_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^:/@]*:(?P<password>.+)@")
_SECRET_NAMES = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|SALT|PRIVATE_KEY|API_KEY|CREDENTIAL")
_SHORTEST = 6  # characters: a shorter one would hide words that say nothing of it


def redacted(text: str) -> str:
    """Return ``text`` without passwords of URLs and without the values, from six characters on, of secret variables."""
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _IN_URL.sub(rf"\g<before>{HIDDEN}", text)


def _secrets() -> set[str]:
    found = set()
    for name, value in os.environ.items():
        if _SECRET_NAMES.search(name.upper()) and "://" not in value:
            found.add(value)
        if (url := _OF_A_VARIABLE.match(value)) is not None:
            found |= {url["password"], unquote(url["password"])}
    return {each for each in found if len(each) >= _SHORTEST}
