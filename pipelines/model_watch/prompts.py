"""The prompts that every model is probed with, beside those that operators put.

Border prompts leave a model undecided between few first words, where a small change of its weights moves the shares
most (Token-Efficient Change Detection, arXiv 2602.11083); open prompts let it go on for a sentence, as Model Equality
Testing does; one prompt of a single letter is asked for log-probabilities (arXiv 2512.03816). A prompt in use is never
edited, since its baseline belongs to its words: a change is another prompt.
"""

from typing import Final

from store.model_probe_runs import Planned
from store.model_probes import probe_key

__all__ = ["BORDER_TOKENS", "OPEN_TOKENS", "built_in"]

BORDER_TOKENS: Final = 4
OPEN_TOKENS: Final = 48

_BORDER: Final = (
    "Left or right? One word.",
    "Heads or tails? One word.",
    "Name a colour. One word.",
    "Name an animal. One word.",
    "A number from 1 to 100. Only the number.",
    "Tea or coffee? One word.",
    "Name a tree. One word.",
    "A random letter. Only the letter.",
    "Name a city. One word.",
    "Is a hot dog a sandwich? One word.",
    "Name a fruit. One word.",
    "Sea or mountains? One word.",
)
_OPEN: Final = (
    "Write one sentence about the sea.",
    "Write the first line of a story about a lighthouse keeper.",
    "Explain in one sentence why the sky is blue.",
    "Describe a quiet morning in one sentence.",
    "Give a tip for better sleep in one sentence.",
    "Invent a name and a slogan for a bakery.",
    "What would you pack for a weekend in the mountains? Answer in one sentence.",
    "Say in one sentence what a good teacher does.",
    "Write a two-line rhyme about rain.",
    "Recommend a hobby and say why in one sentence.",
    "Schreibe einen Satz über den Herbst.",
    "Écris une phrase sur le pain.",
    "Escribe una frase sobre la amistad.",
)
_LOGPROB: Final = "x"


def built_in(samples: int) -> list[Planned]:
    """The built-in prompts as a plan, each with so many samples."""
    texts = [(prompt, BORDER_TOKENS) for prompt in _BORDER] + [(prompt, OPEN_TOKENS) for prompt in _OPEN]
    asked = [("text", prompt, tokens) for prompt, tokens in texts] + [("logprob", _LOGPROB, 1)]
    return [Planned(probe_key(kind, prompt, tokens), kind, prompt, tokens, samples) for kind, prompt, tokens in asked]
