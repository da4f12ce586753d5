"""What the server and its steering process tell each other arrives as it was sent."""

import pickle
import socket
from dataclasses import replace

import numpy as np
import pytest
from steering_policies import policy_of

from gateway.deciding import Figures
from gateway.key_ring import KeyUse
from gateway.steering_wire import Drain, InForce, Noted, Stream
from pipelines.steering.decide import Counts
from store.policy import Policy

PEOPLE = {"ada": {"rate": 0.1}, "bob": {"rate": 0.3}}


def told(policy: Policy, before: Policy | None) -> tuple[InForce, Policy]:
    """The message as it arrives, and the policy that comes of it."""
    message: InForce = pickle.loads(pickle.dumps(InForce.following(policy, before)))
    return message, message.whole(before)


def test_users_are_told_once_for_as_long_as_they_are_the_same() -> None:
    first = policy_of(people=PEOPLE)
    message, whole = told(first, None)
    assert (message.same_users, whole.users.index) == (False, {"ada": 0, "bob": 1})
    second = replace(policy_of(people={**PEOPLE, "bob": {"rate": 0.9}}), version=2)
    message, whole = told(second, first)
    assert (message.same_users, message.policy.users.index) == (True, {})
    assert (whole.version, whole.users.index) == (2, {"ada": 0, "bob": 1})
    assert np.array_equal(whole.users.rate, second.users.rate)
    third = replace(policy_of(people={"bob": {"rate": 0.9}, "eve": {}}), version=3)
    message, whole = told(third, second)
    assert (message.same_users, whole.users.index) == (False, {"bob": 0, "eve": 1})


def test_messages_arrive_in_order_however_large_and_end_with_the_sender() -> None:
    one, other = socket.socketpair()
    sending, receiving = Stream(one), Stream(other)
    messages: list[object] = [Noted(1), "x" * 3_000_000, Drain(), Noted(2)]
    for message in messages:
        sending.send(message)
    assert [receiving.receive() for _ in messages] == messages
    sending.finish(20.0)
    sending.close()
    for each in (receiving, sending):
        with pytest.raises(EOFError):
            each.receive()
    receiving.close()
    receiving.send(Noted(3))  # to nobody


def test_figures_of_processes_add_up_but_for_what_the_later_one_holds() -> None:
    earlier = Figures(Counts(10, 4, 3, 2, 1, 7), {400: 2, 404: 1}, {"key_unknown": 1},
                      {"a": KeyUse(5, 1, None), "b": KeyUse(1, 0, None)}, {"bot": 3.0})  # fmt: skip
    later = Figures(Counts(1, 1, 1, 1, 1, 5), {400: 1}, {}, {"a": KeyUse(2, 0, None)}, {"bot": 4.0})
    assert later.after(earlier) == Figures(
        Counts(11, 5, 4, 3, 2, 5), {400: 3, 404: 1}, {"key_unknown": 1},
        {"a": KeyUse(7, 1, None), "b": KeyUse(1, 0, None)}, {"bot": 4.0},
    )  # fmt: skip
