"""Texts from elsewhere (specs, paths, reasons) made harmless in what they are printed into."""

import re
import unicodedata

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]+")
_FORMULA = ("=", "+", "-", "@")
_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "→": r"$\to$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "−": r"$-$",
    "—": "---",
    "–": "--",
    "…": r"\ldots{}",
    "’": r"\textquoteright{}",
    "‘": r"\textquoteleft{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "ß": r"\ss{}",
}
_GREEK = "αalpha βbeta γgamma δdelta εepsilon ζzeta ηeta θtheta κkappa λlambda μmu νnu ξxi πpi ρrho σsigma τtau "
_GREEK += "φphi χchi ψpsi ωomega"
_TEX |= {word[0]: rf"$\{word[1:]}$" for word in _GREEK.split()}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0308": '"',
    "\u0327": "c",
    "\u030a": "r",
    "\u030c": "v",
}


def plain(text: str) -> str:
    """One line without control characters: a terminal obeys what stands there."""
    return _CONTROL.sub(" ", text)


def csv_field(value: object) -> object:
    """A text that a spreadsheet would run as a formula gets an apostrophe in front; numbers stay."""
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def markdown(text: str) -> str:
    """No HTML, no link, no new cell, no emphasis."""
    text = plain(text).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = text.replace("|", "\\|").replace("`", "\\`").replace("](", "]\\(").replace("![", "!\\[")
    return re.sub(r"\*(?=\w)|(?<!\w)_|_(?!\w)", lambda found: "\\" + found[0], text)


def latex(text: str) -> str:
    """For pdfTeX, XeTeX and LuaTeX alike. Letters that pdfTeX has no font for become `?`."""
    return "".join(map(_tex, plain(text)))


def latex_prose(text: str) -> str:
    """The same with places where a line may break inside a spec."""
    return "".join(_tex(letter) + r"\allowbreak{}" * (letter in ",[/_=") for letter in plain(text))


def _tex(letter: str) -> str:
    if letter in _TEX:
        return _TEX[letter]
    if letter.isascii():
        return letter
    base, *marks = unicodedata.normalize("NFKD", letter)
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS:
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    return base if base.isascii() and base.isalnum() else "?"
