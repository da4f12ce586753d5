"""What the shop sells and the travel desk offers, with the readable features people value.

A product is a variant of a staple (an organic granola, a family-size granola); its features are the variant's, so lists
of products can be drawn without knowing what was asked for.
"""

from dataclasses import dataclass

import numpy as np

from pipelines.simulate.arrays import Floats

__all__ = [
    "OCCASIONS",
    "OFFERS",
    "PURPOSES",
    "ROUTES",
    "STAPLES",
    "VARIANTS",
    "Occasion",
    "Offer",
    "Route",
    "Staple",
    "offer_features",
]


@dataclass(frozen=True)
class Staple:
    """A kind of product: its word in a sentence, code in product ids and typical price in euros."""

    noun: str
    code: str
    price: float


@dataclass(frozen=True)
class Occasion:
    """What it is for: its key in task names and its words in a sentence."""

    key: str
    words: str


@dataclass(frozen=True)
class Offer:
    """A variant of product or trip: label, reason to mention, and price, novelty and health from -1 to 1."""

    label: str
    reason: str
    features: tuple[float, float, float]  # price (1 is cheap), novelty, health

    @property
    def price_factor(self) -> float:
        """Price relative to the typical one."""
        return round(1.0 - 0.45 * self.features[0], 3)


@dataclass(frozen=True)
class Route:
    """A destination of the travel desk."""

    city: str
    code: str
    price: float


STAPLES = (
    Staple("granola", "GRA", 4.9),
    Staple("pasta sauce", "SAU", 3.4),
    Staple("coffee beans", "COF", 11.5),
    Staple("lunchbox snacks", "SNK", 5.2),
    Staple("cheese crackers", "CRA", 3.1),
    Staple("fruit juice", "JUI", 3.8),
    Staple("dark chocolate", "CHO", 2.9),
    Staple("soup", "SOU", 4.2),
    Staple("trail mix", "MIX", 6.5),
    Staple("herbal tea", "TEA", 4.6),
)

OCCASIONS = (
    Occasion("school-week", "for the kids' school week"),
    Occasion("guests", "for six guests on Saturday"),
    Occasion("training", "for after training"),
    Occasion("budget", "on a tight budget this month"),
    Occasion("gift", "as a small gift for a colleague"),
    Occasion("office", "for the office kitchen"),
)

VARIANTS = (
    Offer("Everyday", "it is the cheapest per 100 g", (0.9, -0.7, 0.0)),
    Offer("Organic", "it is made without additives", (-0.4, 0.1, 0.8)),
    Offer("Small-batch", "it comes from a new local maker", (-0.8, 0.7, 0.2)),
    Offer("High-protein", "it has twice the protein", (-0.2, 0.2, 0.7)),
    Offer("Chilli & Lime", "it tastes like nothing you have tried", (0.1, 0.9, -0.2)),
    Offer("Indulgent", "it is the favourite of other customers", (0.2, -0.2, -0.9)),
    Offer("Family-size", "the large pack lasts two weeks", (0.7, -0.6, -0.3)),
    Offer("Low-sugar", "it has 60 % less sugar", (-0.1, -0.1, 0.9)),
)

ROUTES = (
    Route("Lisbon", "LIS", 210.0),
    Route("Vienna", "VIE", 180.0),
    Route("Copenhagen", "CPH", 240.0),
    Route("Porto", "OPO", 190.0),
    Route("Krakow", "KRK", 140.0),
    Route("Edinburgh", "EDI", 230.0),
    Route("Milan", "MIL", 170.0),
    Route("Athens", "ATH", 260.0),
    Route("Dublin", "DUB", 200.0),
    Route("Prague", "PRG", 150.0),
)

PURPOSES = (
    Occasion("weekend", "for a weekend for two"),
    Occasion("conference", "for a three-day conference"),
    Occasion("family", "for a family with two children"),
    Occasion("day-trip", "for a day of meetings, back the same evening"),
    Occasion("honeymoon", "for our honeymoon"),
    Occasion("solo", "for a week on my own"),
)

OFFERS = (
    Offer("Saver coach and hostel", "it is the lowest total price", (0.95, -0.1, -0.2)),
    Offer("Night train and guesthouse", "you arrive rested, without a flight", (0.3, 0.8, 0.4)),
    Offer("Morning flight and city hotel", "it is the standard choice", (0.0, -0.8, 0.0)),
    Offer("Direct flight and spa hotel", "the spa and the short trip spare you", (-0.8, 0.0, 0.9)),
    Offer("Late flight and airport hotel", "it leaves after work", (0.6, -0.6, -0.8)),
    Offer("Train and houseboat", "you sleep on the water", (-0.4, 0.95, 0.2)),
    Offer("Flight and family apartment", "it has a kitchen and space", (0.2, -0.3, 0.3)),
    Offer("Rail pass and hiking lodge", "you walk from the door", (0.1, 0.6, 0.8)),
)


def offer_features(offers: tuple[Offer, ...]) -> Floats:
    """Features of the offers, (offers, 3): price, novelty, health."""
    return np.array([offer.features for offer in offers])
