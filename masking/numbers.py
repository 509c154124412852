r"""Numbers: how one is written, as patterns, and one spelling for equal magnitudes."""

import re
import unicodedata

# Every repetition is possessive: a failed attempt costs its own length once, so scans are linear.
# The look-ahead stands inside the thousands group; behind it, "1,111,...,1111" would be quadratic.
THOUSANDS = r"\d{1,3}(?:(?:,|\{,\}|\\,)\d{3}(?!\d))++"
PLAIN = rf"(?>{THOUSANDS}|\d++)(?:\.\d++)?+"
VULGAR = "\u00bc-\u00be\u2150-\u215e"  # one sign for a fraction; \w, but not \d, to `re`
RAISED = "\u00b2\u00b3\u00b9\u2070\u2074-\u2079"  # superscript digits; \w, but not \d
LETTER = rf"[^\W\d_{VULGAR}{RAISED}]"
_POWER_OF_TEN = rf"10(?:\^(?:\{{[-+]?\d++\}}|[-+]?\d++)|\u207b?[{RAISED}]++)"
NUMBER = re.compile(
    rf"0[xX][0-9a-fA-F]++(?![^\W_])|{_POWER_OF_TEN}"
    rf"|{PLAIN}(?:[eE][-+]?\d++(?!\w))?+(?: ?[{VULGAR}]|[{RAISED}]++)?+"
    rf"(?:\s?(?:\\times|\\cdot|\u00d7|x)\s?{_POWER_OF_TEN})?+"
    rf"|[{VULGAR}]|[{RAISED}]++"
)
"""One number from its first digit on: thousands, decimals, hexadecimal, scientific, ten to a power.

Without a sign, which is an operator, and without a percent sign.
"""

_NO_SEPARATORS = str.maketrans("", "", ",{}\\")
_WRITTEN = re.compile(rf"[-+]?\s?(?:\\?[$€£])?\s?({PLAIN})(?:\\?%)?")
_WRITTEN_FRACTION = re.compile(
    rf"[-+]?\s?(?:\\[dtc]?frac(?:\{{({PLAIN})\}}|(\d))(?:\{{({PLAIN})\}}|(\d))"
    rf"|({PLAIN})\s?[/\u2044]\s?({PLAIN}))"
)


def canonical_number(text: str) -> str | None:
    """One spelling for equal magnitudes: "$1,234.50" -> "1234.5"; None if it is not one number.

    Sign, currency and percent are dropped, as a masked trace keeps them in sight: on the question
    whether a value is the target, this errs towards yes.
    """
    text = text.strip()
    if text.isdecimal() and text.isascii():
        return text.lstrip("0") or "0"
    match = _WRITTEN.fullmatch(text)
    if match:
        return _canonical_digits(match[1])
    if len(text) == 1 and not text.isascii():
        text = unicodedata.normalize("NFKC", text)  # a vulgar fraction: 1, fraction slash, 2
    match = _WRITTEN_FRACTION.fullmatch(text)
    if match is None:
        return None
    above, below = (part for part in match.groups() if part is not None)
    return f"{_canonical_digits(above)}/{_canonical_digits(below)}"


def _canonical_digits(digits: str) -> str:
    if not digits.isascii():
        digits = "".join(
            str(unicodedata.digit(character)) if character.isdigit() else character
            for character in digits
        )
    if not digits.isalnum():
        digits = digits.translate(_NO_SEPARATORS)
    digits = digits.lstrip("0")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return digits if digits[:1].isdigit() else f"0{digits}"
