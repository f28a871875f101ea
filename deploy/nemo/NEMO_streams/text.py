"""Texts for payloads: users by the site's names policy, times, cutting, plain letters."""

import unicodedata
from datetime import timezone as fixed
from functools import lru_cache
from zoneinfo import ZoneInfo

MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
# Letters that Unicode does not decompose into a plain one and a mark.
PLAIN = str.maketrans({"\u00df": "ss", "\u00e6": "ae", "\u00c6": "AE", "\u0153": "oe",
                       "\u0152": "OE", "\u00f8": "o", "\u00d8": "O", "\u0142": "l",
                       "\u0141": "L", "\u0111": "d", "\u0110": "D", "\u00f0": "d",
                       "\u00d0": "D", "\u00fe": "th", "\u00de": "Th", "\u0131": "i",
                       "\u0127": "h", "\u0126": "H", "\u0167": "t", "\u0166": "T",
                       "\u014b": "n", "\u014a": "N", "\u00b5": "u", "\u03bc": "u",
                       "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"',
                       "\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2014": "-",
                       "\u2212": "-", "\u2026": "..."})


def person(user, policy):
    """A user's name as the site wants it published; None where there is nobody to name."""
    if user is None or policy == "none":
        return None
    words = [word for word in (user.first_name.strip(), user.last_name.strip()) if word]
    if policy == "initials":
        return "".join(word[0] for word in words).upper() or None
    return " ".join(words) or user.username


def cut(text, limit):
    """At most limit characters, an ellipsis where something is missing."""
    text = (text or "").strip()
    return text if len(text) <= limit else text[:limit - 1].rstrip() + "\u2026"


def fold(text):
    """ASCII only; what has no plain form is left out."""
    plain = unicodedata.normalize("NFKD", text.translate(PLAIN))
    return " ".join(plain.encode("ascii", "ignore").decode("ascii").split())


def iso(when):
    return None if when is None else when.astimezone(fixed.utc).isoformat(timespec="milliseconds")


@lru_cache(maxsize=16)
def zone(name):
    """None where the server does not know the zone."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return None


def display_time(when, name):
    """As the displays have always shown it: Nov 21, 09:36 PM. C locale, whatever the server's."""
    if when is None:
        return "--"
    local = when.astimezone(zone(name) or fixed.utc)
    return (f"{MONTHS[local.month - 1]} {local.day:02d}, {local.hour % 12 or 12:02d}:"
            f"{local.minute:02d} {'PM' if local.hour >= 12 else 'AM'}")
