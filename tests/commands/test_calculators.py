"""The calculators as they are typed."""

import json

from typed import Call


def test_the_calculator(call: Call) -> None:
    """There and back; a delta that is too large for the population is told on stderr, and the answer still
    comes.
    """
    schedule = ("--batch", "20", "--population", "2000", "--steps", "200")
    needed = call("account", "--eps", "2", *schedule, "--delta", "1e-5", "--json")
    assert (needed.code, needed.err) == (0, "")
    noise = json.loads(needed.out)["noise_multiplier"]
    spent = call("account", "--sigma", str(noise), *schedule, "--delta", "1e-5", "--json")
    assert 1.996 < json.loads(spent.out)["epsilon"] <= 2
    warned = call("account", "--sigma", str(noise), *schedule, "--delta", "1e-3")
    assert warned.code == 0 and warned.out.startswith("epsilon: ")
    assert warned.err.count("\n") == 1 and "not below 1 / population" in warned.err
