"""Lists of items shown with an answer, and what people did with them.

Shop lists are ranked by popularity, so position and appeal are confounded; in a logged share of lists the first item
changes places with a random other one, which identifies how much each position is looked at. Clicks follow the
position-based model: P(click) = examination(position) x attractiveness(item). Trip offers are shown side by side in
random order and people choose one or none: a conditional logit (McFadden 1974) with the outside option at utility 0.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from pipelines.simulate.agents import SHOP, TRAVEL
from pipelines.simulate.arrays import Bools, Floats, Ints, stream
from pipelines.simulate.catalogue import OFFERS, VARIANTS, offer_features
from pipelines.simulate.config import SimulationConfig
from pipelines.simulate.population import SEGMENTS

__all__ = [
    "CHOICE_CONSTANT",
    "CLICK_CONSTANT",
    "EXAMINATION",
    "OFFER_SLOTS",
    "QUALITY_LOADING",
    "SLOTS",
    "Responses",
    "Slates",
    "draw_slates",
    "respond",
]

EXAMINATION = (1.0, 0.68, 0.50, 0.38, 0.30)  # of positions 1 to 5
SLOTS, OFFER_SLOTS = 5, 4
CLICK_CONSTANT, CHOICE_CONSTANT = -1.0, -1.4
QUALITY_LOADING = 0.3  # of the part of an answer's quality that is not taste
_ITEM_STYLE_SD = 0.6  # of an item's text around the style of its answer


@dataclass(frozen=True)
class Slates:
    """Items per trace, (traces, SLOTS), in order of position; variant -1 marks an empty slot."""

    variant: Ints
    base_rank: Ints  # 1-based rank before swaps
    propensity: Floats  # probability of this item at this position, given the items
    style_noise: Floats  # (traces, SLOTS, 2)

    def item_features(self) -> Floats:
        """Price, novelty and health of each item, (traces, SLOTS, 3); zero in empty slots."""
        variants, offers = offer_features(VARIANTS), offer_features(OFFERS)
        shop = (self.variant[:, SLOTS - 1] >= 0)[:, None, None]
        features = np.where(shop, variants[self.variant], offers[self.variant])
        return np.where((self.variant >= 0)[:, :, None], features, 0.0)

    def features(self, style: Floats) -> Floats:
        """All features of each item given the style of its answer (traces, 2): (traces, SLOTS, features)."""
        texts = np.clip(style[:, None, :] + self.style_noise * _ITEM_STYLE_SD, -1.0, 1.0)
        return np.round(np.concatenate([texts, self.item_features()], axis=2), 3)


@dataclass(frozen=True)
class Responses:
    """What happened to each shown item, (traces, SLOTS).

    `probability` is attractiveness for shop lists (to be multiplied by examination) and choice for trip offers.
    """

    shown: Bools
    probability: Floats
    clicked: Bools


def draw_slates(config: SimulationConfig, agent: Ints) -> Slates:
    """Draw the list of each trace, given the agent of each trace."""
    rng = stream(config.seed, "slates")
    n = len(agent)
    variant = np.full((n, SLOTS), -1, dtype=np.int64)
    base_rank = np.zeros((n, SLOTS), dtype=np.int64)
    propensity = np.ones((n, SLOTS))

    shop = np.flatnonzero(agent == SHOP)
    drawn = np.argsort(rng.random((len(shop), len(VARIANTS))), axis=1)[:, :SLOTS]
    average = np.array([s.share for s in SEGMENTS]) @ np.array([s.weights for s in SEGMENTS])
    popularity = (offer_features(VARIANTS) @ average[2:])[drawn] + rng.normal(0.0, 0.3, drawn.shape)
    ranked = np.take_along_axis(drawn, np.argsort(-popularity, axis=1), axis=1)
    swapped = np.flatnonzero(rng.random(len(shop)) < config.swap_rate)
    partner = rng.integers(1, SLOTS, size=len(swapped))
    rank = np.tile(np.arange(1, SLOTS + 1), (len(shop), 1))
    ranked[swapped, 0], ranked[swapped, partner] = ranked[swapped, partner], ranked[swapped, 0]
    rank[swapped, 0], rank[swapped, partner] = rank[swapped, partner], rank[swapped, 0]
    position = np.arange(1, SLOTS + 1)[None, :]
    moved = config.swap_rate / (SLOTS - 1)
    stayed = np.where(rank == 1, 1.0 - config.swap_rate, 1.0 - moved)
    variant[shop], base_rank[shop] = ranked, rank
    propensity[shop] = np.where(rank == position, stayed, moved)

    travel = np.flatnonzero(agent == TRAVEL)
    offers = np.argsort(rng.random((len(travel), len(OFFERS))), axis=1)[:, :OFFER_SLOTS]
    variant[travel, :OFFER_SLOTS] = offers
    base_rank[travel, :OFFER_SLOTS] = np.arange(1, OFFER_SLOTS + 1)
    propensity[travel] = 1.0 / OFFER_SLOTS
    return Slates(variant, base_rank, propensity, rng.normal(size=(n, SLOTS, 2)))


def respond(
    slates: Slates,
    features: Floats,
    weights: Floats,
    agent: Ints,
    failed: Bools,
    besides_taste: Floats,
    click_effect: Floats,
    rng: np.random.Generator,
) -> Responses:
    """Clicks and choices, given item features (traces, SLOTS, features) and revealed weights (traces, features).

    `besides_taste` is the logit of quality without the taste term; `click_effect` what the arm adds to clicks alone.
    """
    shown = (slates.variant >= 0) & ~failed[:, None]
    utility = np.einsum("nsf,nf->ns", features, weights) + QUALITY_LOADING * besides_taste[:, None]
    uniforms = rng.random(shown.shape)
    shop = (agent == SHOP)[:, None]
    attractiveness = expit(CLICK_CONSTANT + click_effect[:, None] + utility)
    clicked = shown & shop & (uniforms < attractiveness * np.array(EXAMINATION))

    offered = shown & ~shop
    odds = np.where(offered, np.exp(CHOICE_CONSTANT + utility), 0.0)
    choice = odds / (1.0 + odds.sum(axis=1, keepdims=True))
    chosen = (uniforms[:, :1] >= np.cumsum(choice, axis=1)).sum(axis=1)
    clicked |= offered & (np.arange(SLOTS)[None, :] == chosen[:, None])
    return Responses(shown, np.where(shop, attractiveness, choice), clicked)
