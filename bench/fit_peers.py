"""Fit one model with one peer package, in the peer's own environment.

Run as: DIR/<peer>/bin/python bench/fit_peers.py CASE DATA.npz      Prints {"seconds": ..., "values": [...]} as JSON.
Imports nothing of Trimtab; each case imports its peer before the clock starts.
"""

import json
import sys
import time
import warnings

import numpy as np


def bradley_terry(data):
    """choix: I-LSR on the list of (winner, loser), as its documentation does."""
    import choix

    pairs = [tuple(pair) for pair in np.column_stack([data["winner"], data["loser"]]).tolist()]
    items = int(data["items"])
    started = time.perf_counter()
    strengths = choix.ilsr_pairwise(items, pairs, alpha=0.0)
    return time.perf_counter() - started, strengths - strengths.mean()


def conditional_logit(data):
    """xlogit: multinomial logit over sets of equal size."""
    from xlogit import MultinomialLogit

    features, sets, chosen = data["features"], data["sets"], data["chosen"]
    size = int(np.sum(sets == sets[0]))
    names = [f"x{j}" for j in range(features.shape[1])]
    model = MultinomialLogit()
    started = time.perf_counter()
    model.fit(
        X=features, y=chosen.astype(int), varnames=names, ids=sets, alts=np.tile(np.arange(size), sets.size // size),
        verbose=0,
    )  # fmt: skip
    return time.perf_counter() - started, model.coeff_


def user_weights(data):
    """xlogit: mixed logit with normal weights, 200 draws for each user."""
    from xlogit import MixedLogit

    features, sets, chosen = data["features"], data["sets"], data["chosen"]
    size = int(np.sum(sets == sets[0]))
    names = [f"x{j}" for j in range(features.shape[1])]
    model = MixedLogit()
    started = time.perf_counter()
    model.fit(
        X=features, y=chosen.astype(int), varnames=names, ids=sets, alts=np.tile(np.arange(size), sets.size // size),
        panels=data["users"], randvars=dict.fromkeys(names, "n"), n_draws=200, verbose=0,
    )  # fmt: skip
    return time.perf_counter() - started, np.abs(model.coeff_)


def random_intercepts(data):
    """statsmodels: Bayesian mixed logistic regression by its fastest fit, the posterior mode."""
    import scipy.sparse
    from statsmodels.genmod.bayes_mixed_glm import BinomialBayesMixedGLM

    users = data["users"]
    shape = (users.size, int(users.max()) + 1)
    membership = scipy.sparse.csr_matrix((np.ones(users.size), (np.arange(users.size), users)), shape=shape)
    started = time.perf_counter()
    model = BinomialBayesMixedGLM(
        data["response"], data["design"], membership, np.zeros(shape[1], dtype=int), vcp_p=3, fe_p=3
    )
    found = model.fit_map()
    return time.perf_counter() - started, [*found.fe_mean, float(np.exp(found.vcp_mean[0]))]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with np.load(sys.argv[2]) as arrays:
        seconds, values = globals()[sys.argv[1]](dict(arrays))
    print(json.dumps({"seconds": seconds, "values": [float(value) for value in values]}))
