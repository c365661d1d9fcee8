"""Token buckets by a clock of the test's own; real time is in test_gate."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.limits import Limits, Rate, neighbourhood

RATES = st.builds(Rate, st.floats(1e-3, 1e3), st.integers(1, 50))
PAUSES = st.lists(st.floats(0, 100) | st.just(0.0), min_size=1, max_size=200)


class Clock:
    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return self.now


@given(RATES, PAUSES, st.floats(0, 1e7))
def test_no_stretch_of_time_gets_more_than_rate_times_time_and_a_burst(rate, pauses, start):
    clock = Clock(start)
    limits = Limits(clock=clock)
    granted = []
    for pause in pauses:
        clock.now += pause
        if limits.take("a", rate) == 0:
            granted.append(clock.now)
    for first, began in enumerate(granted):
        for last in range(first, len(granted)):
            most = rate.per_second * (granted[last] - began) + rate.burst
            assert last - first + 1 <= most * (1 + 1e-6) + 1e-3


@given(RATES, PAUSES)
def test_who_waits_as_long_as_told_is_granted_and_not_sooner(rate, pauses):
    clock = Clock()
    limits = Limits(clock=clock)
    for pause in pauses:
        clock.now += pause
        if wait := limits.take("a", rate):
            assert 0 < wait <= 1 / rate.per_second * (1 + 1e-9)
            clock.now += wait / 2
            assert limits.take("a", rate) > 0
            clock.now += math.ceil(wait)  # what Retry-After says
            assert limits.take("a", rate) == 0


def test_a_burst_may_come_at_once_and_again_after_a_rest():
    clock, rate = Clock(1e6), Rate(10, 3)
    limits = Limits(clock=clock)
    assert [limits.take("a", rate) == 0 for _ in range(4)] == [True] * 3 + [False]
    clock.now += 100
    assert [limits.take("a", rate) == 0 for _ in range(4)] == [True] * 3 + [False]


def test_callers_do_not_spend_each_other_s_tokens():
    limits = Limits(clock=Clock())
    assert limits.take("a", Rate(1, 1)) == 0
    assert limits.take("a", Rate(1, 1)) > 0
    assert limits.take("b", Rate(1, 1)) == 0


def test_what_is_kept_is_bounded_and_the_longest_silent_goes_first():
    clock, rate = Clock(), Rate(1, 1)
    limits = Limits(most=3, clock=clock)
    for caller in "abcab":
        limits.take(caller, rate)
    limits.take("d", rate)
    assert len(limits) == 3
    assert limits.take("a", rate) > 0, "it was heard of lately, so it is remembered"
    assert limits.take("c", rate) == 0, "it made room"
    for number in range(1000):
        limits.take(str(number), rate)
    assert len(limits) == 3


def test_a_new_rate_counts_at_once():
    clock = Clock()
    limits = Limits(clock=clock)
    assert limits.take("a", Rate(1, 100)) == 0
    assert limits.take("a", Rate(1, 1)) == 0, "99 were left, of which the new burst keeps one"
    assert limits.take("a", Rate(1, 1)) == 1
    assert limits.take("a", Rate(math.inf, 1)) == 0


@pytest.mark.parametrize(
    ("per_second", "burst", "expected"),
    [(0.1, None, 1), (2.5, None, 3), (10, None, 10), (10, 2, 2), (math.inf, None, 10**9)],
)
def test_a_burst_is_a_second_s_worth_by_default(per_second, burst, expected):
    assert Rate.of(per_second, burst).burst == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not:an:address", "not:an:address"),
        ("", ""),
    ],
)
def test_an_ipv6_caller_is_its_64(address, expected):
    assert neighbourhood(address) == expected
