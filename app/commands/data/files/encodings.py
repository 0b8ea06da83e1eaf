"""Which encoding a text file has: byte order mark, then UTF-8 if it is, then what old programs write.

Only what is beyond doubt is taken without asking: the German, French, ... of Windows-1252 and the Chinese of GB18030.
For anything else the likeliest encoding is named in the error, for the owner to confirm.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from dataclasses import dataclass
from typing import BinaryIO

from charset_normalizer import from_bytes

from app.commands.console.terminal import EXIT_USAGE, CommandFailed

_CHUNK = 2**20
_SAMPLE = 2**18
# UTF-32 before UTF-16, whose little-endian mark is the beginning of that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_NAMES = {"cp1252": "Windows-1252", "gb18030": "GB18030", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}
_WESTERN = set(
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüÿŒœŠšŽžŸ"
    "\u20ac\u201e\u201c\u201d\u2018\u2019\u201a\u2013\u2014\u2026\u2022\u2039\u203a\u2122"
    "\u00ab\u00bb\u00a0\u00a7\u00b0\u00a9\u00ae\u00b4\u00a3\u00a1\u00bf\u00ba\u00aa\u00b7\u00b2\u00bd\u00bc\u00be\u00d7"
)
_INSIDE_A_WORD = re.compile("[a-z][\u20ac\u201e\u201c\u201d\u2018\u201a\u2026\u2022\u0152\u0160\u017d\u0178][a-z]")
"""What Windows-1252 makes of the letters of other code pages."""
_FEW = 0.3
"""Share of the letters that are not ASCII in a text of a western language, at most."""
_MOST = 0.95
"""Share of these letters among all that are not ASCII, at least: a stray sign does not make another code page."""
_STRANGERS = (("\u00f8", "\u00ec\u00e8\u00f9"), ("\u00f5\u00fb", "\u00f6\u00fc", "\u00e1\u00e9\u00ed\u00f3"))
"""Letters that no western language has together: what Windows-1252 makes of Czech and of Hungarian in Windows-1250."""
_OFTEN = 0.04
_VALID = 4
"""So many sound characters for each broken one make a file UTF-8 with damage rather than something else."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """A codec and the name people know it by. `damaged`: bytes that it cannot read are left to their rows."""

    codec: str
    name: str
    damaged: bool = False


def named_encoding(name: str) -> Encoding:
    """The encoding that a person named."""
    try:
        codec = codecs.lookup(name)
    except LookupError:
        raise CommandFailed(
            f"there is no encoding {name!r}", "For example utf-8, utf-16, cp1252, gb18030.", EXIT_USAGE
        ) from None
    if codec.name == "utf-8":
        # Also where there is no mark; where there is one it does not become a character of the first column's name.
        return Encoding("utf-8-sig", "UTF-8")
    return Encoding(codec.name, _NAMES.get(codec.name, codec.name))


def detect(file: BinaryIO, name: str) -> Encoding:
    """The encoding of a file. Raises `CommandFailed` where it is in doubt, naming the likeliest."""
    file.seek(0)
    head = file.read(_SAMPLE)
    for mark, codec, called in _MARKS:
        if head.startswith(mark):
            return Encoding(codec, called, damaged=codec == "utf-8-sig")
    # Before UTF-8: ASCII text in UTF-16 is valid UTF-8 too, with a NUL after each letter.
    if (wide := _wide(head)) is not None:
        return Encoding(wide, _NAMES[wide])
    sound, broken = _count_utf8(file)
    if not broken or sound > _VALID * broken:
        return Encoding("utf-8-sig", "UTF-8", damaged=True)
    sample = _foreign_lines(file)
    if _is_chinese(sample):
        return Encoding("gb18030", "GB18030")
    if _is_western(sample):
        return Encoding("cp1252", "Windows-1252")
    guess = likeliest(sample)
    if guess is None:
        raise CommandFailed(f"{name} is not UTF-8, nor text in another encoding that is known", code=EXIT_USAGE)
    raise CommandFailed(
        f"{name} is not UTF-8; it looks like {_NAMES.get(guess, guess)}, but that is a guess",
        f"If it is right: --encoding {guess}. Else name the right one.",
        EXIT_USAGE,
    )


def likeliest(sample: bytes) -> str | None:
    """The codec that fits bytes best which are not UTF-8."""
    if _is_chinese(sample):
        return "gb18030"
    if _is_western(sample):
        return "cp1252"
    best = from_bytes(sample).best()
    return None if best is None else best.encoding


def hint_for(file: BinaryIO) -> str:
    """What to do about a file that an encoding cannot read, as the end of a sentence."""
    guess = likeliest(_foreign_lines(file))
    return f"; it looks like {_NAMES.get(guess, guess)}: --encoding {guess}" if guess else ""


def _wide(head: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of ASCII text is zero."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = max(len(head) // 2, 1)
    if odd > 0.4 * half and even < 0.05 * half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 * half and odd < 0.05 * half else None


def _count_utf8(file: BinaryIO) -> tuple[int, int]:
    """Characters beyond ASCII that are sound, and bytes that are not."""
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    sound = broken = 0
    while True:
        chunk = file.read(_CHUNK)
        text = decoder.decode(chunk, final=not chunk)
        if not text.isascii():
            # What `surrogateescape` makes of bytes that are not UTF-8.
            bad = sum("\udc80" <= c <= "\udcff" for c in text)
            sound, broken = sound + sum(c > "\x7f" for c in text) - bad, broken + bad
        if not chunk:
            return sound, broken


def _foreign_lines(file: BinaryIO) -> bytes:
    """Lines with bytes beyond ASCII, as many as are needed for a judgement."""
    file.seek(0)
    lines, size = [], 0
    for line in file:
        if not line.isascii():
            lines.append(line)
            size += len(line)
            if size > _SAMPLE:
                break
    return b"".join(lines)


def _is_chinese(sample: bytes) -> bool:
    """Mostly common Chinese characters. GB 2312 has these at lead bytes B0 to D7, both bytes above A0; the Hangul of
    EUC-KR lies there too, but never above C8.
    """
    try:
        text = sample.decode("gb18030")
    except UnicodeDecodeError:
        return False
    foreign = [c for c in text if c > "\x7f"]
    pairs = [c.encode("gb18030") for c in foreign if "\u4e00" <= c <= "\u9fff"]
    common = [pair for pair in pairs if len(pair) == 2 and 0xB0 <= pair[0] <= 0xD7 and pair[1] > 0xA0]
    return len(common) > 0.6 * len(foreign) and sum(pair[0] > 0xC8 for pair in common) > 0.1 * len(common)


def _is_western(sample: bytes) -> bool:
    """Latin letters, few of them beyond ASCII, all of western languages, and no punctuation inside words."""
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return False
    foreign = [c for c in text if c > "\x7f"]
    if sum(c in _WESTERN for c in foreign) < _MOST * max(len(foreign), 1) or _INSIDE_A_WORD.search(text):
        return False
    letters = Counter("".join(foreign).lower())
    often = {letter for letter, count in letters.items() if count > _OFTEN * len(foreign)}
    if any(all(often & set(group) for group in groups) for groups in _STRANGERS):
        return False
    return sum(c.isalpha() for c in foreign) < _FEW * max(sum(c.isalpha() for c in text), 1)
