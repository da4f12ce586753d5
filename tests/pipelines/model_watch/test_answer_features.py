"""What is measured of answers: by hand, in many languages, and of texts that mean harm."""

import json
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.model_watch import refusals
from pipelines.model_watch.features import features, plain
from pipelines.model_watch.language import language
from store.model_answers import FEATURES, TEXTS

REFUSED = {
    "en": ("I'm sorry, but I can't help with that.", "I cannot assist with this request.", "As an AI, I have no body.",
           "Unfortunately that goes against our policies.", "I must respectfully decline.",
           "I am unable to provide it.", "I’m not able to discuss that."),
    "de": ("Das tut mir leid, aber dabei kann ich nicht helfen.", "Ich kann Ihnen dabei leider nicht helfen.",
           "Als KI habe ich keine Meinung.", "Es ist mir leider nicht erlaubt.", "Diese Anfrage muss ich ablehnen."),
    "fr": ("Je suis désolé, mais je ne peux pas vous aider.", "Je ne suis pas en mesure de répondre.",
           "En tant qu'IA, je n'ai pas d'avis."),
    "es": ("Lo siento, pero no puedo ayudarte con eso.", "No me es posible hacerlo.", "Como modelo de lenguaje, no."),
    "it": ("Mi dispiace, ma non posso aiutarti.", "Non sono in grado di farlo.", "In quanto IA non ho opinioni."),
    "pt": ("Sinto muito, mas não posso ajudar.", "Não me é possível responder.", "Como uma IA, não tenho opinião."),
    "nl": ("Het spijt me, maar daar kan ik niet mee helpen.", "Ik kan je daar niet mee helpen.",
           "Helaas, ik ben niet in staat dit te doen.",
           "Als AI heb ik geen mening."),
    "pl": ("Przykro mi, ale nie mogę pomóc.", "Jako AI nie mam zdania."),
    "ru": ("Извините, я не могу помочь с этим.", "К сожалению, я не могу ответить."),
    "zh": ("很抱歉，我无法提供帮助。", "我不能协助您完成这个请求。"),
    "ja": ("申し訳ありませんが、お手伝いできません。", "そのご質問にはお答えできません。"),
}  # fmt: skip
HELPED = (
    "Sorry for the delay! Your order is on its way.", "I can help with that. The refund takes three days.",
    "The model cannot be returned after 30 days.", "I could not find a seat, but here are two trains.",
    "You are not allowed to bring liquids on board.", "Gerne! Der Zug kann nicht überbucht werden.",
    "Entschuldigung für die Wartezeit, hier ist Ihr Ticket.", "Bien sûr, je peux vous aider. Le train part à midi.",
    "Claro que sí, puedo ayudarte con tu pedido.", "Certo! Posso aiutarti con l'ordine.",
    "Claro, posso ajudar com o pedido.", "Natuurlijk kan ik je daarmee helpen.", "Oczywiście, mogę pomóc.",
    "Конечно, я могу помочь.", "当然可以，我来帮助您。", "はい、お手伝いします。",
)  # fmt: skip


def measured(*outputs: str | None, **more: Any) -> list[dict[str, Any]]:
    row = {
        "day": date(2026, 11, 1), "model": "m", "agent": "", "trace_id": "t", "span_id": "", "fingerprint": None,
        "answered_at": datetime(2026, 11, 1, tzinfo=UTC), "seconds": 2.0, "output_tokens": 10, "asked": "the price",
    }  # fmt: skip
    return features(pl.DataFrame([{**row, **more, "output": each} for each in outputs], schema=TEXTS)).to_dicts()


def test_refusals_of_every_language_are_seen_and_help_is_not() -> None:
    assert set(REFUSED) == set(refusals.PATTERNS)
    for code, texts in REFUSED.items():
        assert [row["refusal"] for row in measured(*texts)] == [1.0] * len(texts), code
    for text, row in zip(HELPED, measured(*HELPED), strict=True):
        assert row["refusal"] == 0.0, text
    # What is quoted deep in an answer is not how it begins.
    assert measured("Here is the letter. " * 40 + "I cannot help with that.")[0]["refusal"] == 0.0


def test_every_pattern_is_needed_and_matches_alone() -> None:
    for code, named in refusals.PATTERNS.items():
        for name, pattern in named.items():
            texts = pl.Series([text.replace("’", "'") for text in REFUSED[code]])
            assert texts.str.contains(f"(?i){pattern}").any(), (code, name)


def test_an_answer_by_hand() -> None:
    (row,) = measured("Sure, gladly! Two trains go:\n- one at noon\n- one at two.", seconds=1.5, output_tokens=14)
    # 4 + 8 words in "Sure, gladly!", "Two trains go: one at noon, one at two."
    text = "Sure, gladly! Two trains go:\n- one at noon\n- one at two."
    assert row["length"] == len(text) == 56
    assert row["tokens_per_character"] == pytest.approx(14 / 56)
    assert row["sentence_length"] == pytest.approx(11 / 2)
    assert row["list_share"] == pytest.approx(2 / 3)
    assert row["punctuation"] == pytest.approx(6 / 56 * 100)
    assert (row["opening"], row["refusal"], row["seconds"], row["language"]) == ("sure gladly", 0.0, 1.5, "en")


def test_what_cannot_be_measured_is_null() -> None:
    calls = json.dumps({"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]})
    for row in measured(None, "", "   ", calls, output_tokens=None, seconds=-1.0):
        assert {name for name, value in row.items() if value is None} >= {
            "opening", "tokens_per_character", "length", "refusal", "seconds", "sentence_length", "list_share",
            "punctuation",
        }  # fmt: skip
    spoken = json.dumps([{"role": "assistant", "content": "On it.", "tool_calls": [{"id": "1"}]}])
    (row,) = measured(spoken)
    assert (row["length"], row["tokens_per_character"]) == (6.0, None)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ('{"role": "assistant", "content": "Hello"}', "Hello"),
        ('[{"content": [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]}]', "One\nTwo"),
        ('{"choices": [{"message": {"content": "Deep"}}]}', "Deep"),
        ('{"price": 3, "name": "seat"}', '{"price": 3, "name": "seat"}'),
        ("[not JSON", "[not JSON"),
        ("[" * 5_000, "[" * 5_000),
        ('{"role": "assistant", "content": null}', None),
        (None, None),
    ],
)
def test_what_an_answer_says(output: str | None, said: str | None) -> None:
    assert plain(output) == said


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Please, how can I change the date of my flight?", "en"),
        ("Ich möchte bitte mein Ticket und die Rechnung", "de"),
        ("Bonjour, je voudrais une chambre pour deux", "fr"), ("Hola, quiero cambiar el vuelo por favor", "es"),
        ("Vorrei una camera per due, grazie", "it"), ("Olá, quero uma passagem para o Porto", "pt"),
        ("Ik wil graag een kamer voor twee met ontbijt", "nl"),
        ("Dzień dobry, proszę mi powiedzieć czy jest pokój", "pl"),
        ("Здравствуйте, где мой заказ?", "ru"), ("我的订单在哪里", "zh"), ("注文はどこですか", "ja"), ("12345", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_languages_are_guessed(text: str, code: str) -> None:
    assert pl.DataFrame({"text": [text]}).select(language(pl.col("text"))).item() == code


@settings(max_examples=25)
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=200), max_size=8))
def test_any_text_is_measured_within_its_ranges(outputs: list[str]) -> None:
    for row in measured(*outputs, asked="".join(outputs)):
        assert set(row) == set(FEATURES)
        for name in ("refusal", "list_share"):
            assert row[name] is None or 0.0 <= row[name] <= 1.0
        assert row["punctuation"] is None or 0.0 <= row["punctuation"] <= 100.0
        assert row["length"] is None or row["length"] >= 1.0


def test_texts_made_to_stall_a_pattern_are_matched_in_passing() -> None:
    # Nested repetitions of what the patterns repeat: exponential for a matcher that goes back.
    stalling = ["I'm sorry, " * 50_000, "nicht " * 60_000, "\n- " * 100_000, "kan ik je " * 40_000, "." * 300_000]
    assert len(measured(*stalling)) == 5
