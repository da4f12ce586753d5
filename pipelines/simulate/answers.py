"""What agents write: lists of items in the style that the features describe, and sentences around them."""

from collections.abc import Sequence

from pipelines.simulate.catalogue import Offer

__all__ = ["APOLOGY", "CHANGED_OPENER", "SLOW", "item_lines"]

APOLOGY = "I am sorry, one of our systems is not available at the moment. Please try again a little later."
SLOW = " Sorry for the wait, one of our systems was slow."
CHANGED_OPENER = "Certainly! I would be delighted to help you with that today. "
_VERBOSE = (
    " Many people who asked for the same were happy with it.",
    " It goes well with most of the others on this list.",
    " It has been on offer for about two months, and reviews have been steady.",
    " You may want to compare it with the one above before you decide.",
    " If you have had it before, you know what to expect.",
)


def item_lines(offers: Sequence[Offer], names: Sequence[str], prices: Sequence[float], style: list[list[float]]) -> str:
    """A numbered list of items; `style` holds brevity and explanation of each item's text."""
    lines = []
    for number, (offer, name, price) in enumerate(zip(offers, names, prices, strict=True), start=1):
        brevity, explanation = style[number - 1]
        because = f", because {offer.reason}" if explanation > 0.0 else ""
        verbose = _VERBOSE[number - 1] if brevity < -0.3 else ""
        lines.append(f"{number}. {name}, {price:.2f} EUR{because}.{verbose}")
    return "\n".join(lines)
