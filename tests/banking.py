"""Many intents of a bank, some close to each other: what a growing installation learns, written for these tests.

An intent has words of its own and shares some with its neighbours. Each text is three of its words, one shared word and
a few common ones, so that the tiny encoder gets most of them right and confuses neighbours now and then.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.intents import Labelled

KNOWN = {
    "card_arrival": "card arrive delivery track",
    "card_blocked": "card blocked stop stolen",
    "card_virtual": "card virtual online activate",
    "pin_change": "pin change atm new",
    "cash_declined": "cash declined atm withdraw",
    "cash_wrong_amount": "cash wrong amount withdrawal",
    "transfer_pending": "transfer pending delay wait",
    "transfer_failed": "transfer failed error reject",
    "transfer_receive": "transfer received account find",
    "top_up_failed": "top fail again error",
    "top_up_limit": "top limit high daily",
    "exchange_rate": "exchange rate currency pound",
    "exchange_fee": "exchange fee charge cost",
    "refund_status": "refund status when back",
    "identity_why": "identity why need verify",
    "identity_fail": "identity fail unable verify",
    "password_reset": "password reset forgot link",
    "email_change": "email change update address",
    "phone_lost": "phone lost app switch",
    "mortgage_ask": "mortgage loan rate long",
    "salary_late": "salary late pay month",
    "travel_notice": "travel trip country city",
    "flight_cancel": "flight cancel booking hotel",
    "statement_get": "statement file date report",
    "tax_form": "tax report year form",
    "profit_news": "profit earnings quarter growth",
    "stock_news": "stock market fell rose",
    "complaint_service": "terrible service support bad",
}
NEW = {
    "card_limit": "card limit less standard",
    "card_lost_abroad": "card lost country holiday",
    "cash_deposit": "cash deposit machine put",
    "direct_debit": "debit bill order month",
    "overdraft_ask": "overdraft balance low money",
    "invest_ask": "buy shares price world",
    "joint_account": "join account both they",
    "meeting_branch": "meeting branch open time",
    "recipe_chat": "recipe restaurant happy love",
    "package_lost": "package ship return lost",
    "weather_chat": "weather today tomorrow night",
    "wallet_setup": "wallet mobile setup phone",
}
_COMMON = ("please", "help", "me", "with", "this", "now", "i", "want", "to", "know", "about", "it", "can", "you", "my")


def texts(intent: str, seed: int = 0) -> Iterator[str]:
    """Endless different texts of an intent."""
    return written({**KNOWN, **NEW}[intent], f"{intent} {seed}")


def written(words: str, seed: str) -> Iterator[str]:
    """Endless different texts made of some words."""
    rng, own, seen = random.Random(seed), words.split(), set[str]()
    while True:
        chosen = [*rng.choices(own, k=3), *rng.choices(own[:2], k=1), *rng.choices(_COMMON, k=4)]
        rng.shuffle(chosen)
        text = " ".join(chosen)
        if text not in seen:
            seen.add(text)
            yield text


def rows(intents: list[str], each: int, seed: int = 0) -> list[Labelled]:
    """So many pairs of each intent, the intents taking turns."""
    sources = {intent: texts(intent, seed) for intent in intents}
    return [(next(sources[intent]), intent) for _ in range(each) for intent in intents]
