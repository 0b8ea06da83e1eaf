"""Which column holds the text and which the label."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.commands.console.terminal import EXIT_USAGE, CommandFailed

TEXT_COLUMNS = (
    *("text", "sentence", "utterance", "message", "query", "content", "headline", "review", "question"),
    *("nachricht", "satz", "frage", "anfrage", "inhalt", "beschreibung", "kommentar", "titel", "äußerung"),
    *(
        "文本",
        "内容",
        "句子",
        "问题",
        "消息",
        "评论",
        "标题",
        "正文",
        "語句",
        "文字",
        "內容",
        "問題",
        "訊息",
        "評論",
        "標題",
    ),
)
LABEL_COLUMNS = (
    *("label", "category", "intent", "class", "sentiment", "topic", "target"),
    *("etikett", "kategorie", "klasse", "absicht", "thema", "stimmung", "schlagwort", "rubrik", "bezeichnung"),
    *("标签", "类别", "分类", "意图", "情感", "主题", "类型", "標籤", "類別", "分類", "意圖", "主題", "類型"),
)


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns (or keys) that hold text and label; a file to be predicted has no label."""

    text: str
    label: str


def choose_columns(header: Iterable[str], text: str | None, label: str | None) -> Columns:
    """The text and label columns: as told, else by well-known names, else by elimination in two columns.

    Raises `CommandFailed` naming the columns that are there.
    """
    names = list(header)
    _check_told(names, text, label)
    text = text or _guess([n for n in names if n != label], TEXT_COLUMNS)
    label = label or _guess([n for n in names if n != text], LABEL_COLUMNS)
    if len(names) == 2 and (text is None) != (label is None):
        other = next(n for n in names if n not in {text, label})
        text, label = text or other, label or other
    if text is None or label is None or text == label:
        raise CommandFailed(
            f"cannot tell which columns hold the text and the label; the columns are: {', '.join(names)}",
            "Name them with --text-column and --label-column. (The first line must name the columns.)",
            code=EXIT_USAGE,
        )
    return Columns(text, label)


def choose_text_column(header: Iterable[str], text: str | None) -> str:
    """The column to be predicted: as told, else by a well-known name, else the only one."""
    names = list(header)
    _check_told(names, text, None)
    chosen = text or _guess(names, TEXT_COLUMNS) or (names[0] if len(names) == 1 else None)
    if chosen is None:
        raise CommandFailed(
            f"cannot tell which column holds the text; the columns are: {', '.join(names)}",
            "Name it with --text-column.",
            code=EXIT_USAGE,
        )
    return chosen


def known_columns(header: Sequence[str]) -> bool:
    """Whether a header has columns of well-known names."""
    return any(_plain(name) in {*TEXT_COLUMNS, *LABEL_COLUMNS} for name in header)


def _check_told(names: Sequence[str], text: str | None, label: str | None) -> None:
    for name in filter(None, (text, label)):
        if name not in names:
            raise CommandFailed(f"there is no column {name!r}; the columns are: {', '.join(names)}", code=EXIT_USAGE)


def _guess(names: list[str], known: tuple[str, ...]) -> str | None:
    """The first-choice name if it is there, else the only well-known one."""
    matching = [name for name in names if _plain(name) in known]
    exact = [name for name in matching if _plain(name) == known[0]]
    if len(exact) == 1:
        return exact[0]
    return matching[0] if len(matching) == 1 else None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip(" \ufeff\u200b").casefold()  # marks that no editor shows
