"""The greedy search keeps its promises for any chain of layers."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.errors import ModelError
from edgekd.models.channels import Group, Member
from edgekd.prune.candidates import Block, Candidates, Choice, Cut, Limit, Proportional, Shape
from edgekd.prune.search import choose as choose_of
from edgekd.prune.search import narrowest

PIXELS = 16
KEY = "keep_macs"


def limit(costs: Mapping[str, float], keep: float, key: str = KEY) -> Limit:
    return Limit(key, {layer: Proportional(cost) for layer, cost in costs.items()}, keep)


def candidates(groups: Sequence[Group], importances: Sequence[np.ndarray], blocks: Sequence[Block] = ()) -> Candidates:
    """Damage is the sum of the importances that go."""
    orders = [np.argsort(importance, kind="stable") for importance in importances]
    damages = [np.concatenate([[0.0], np.cumsum(np.sort(importance))]) for importance in importances]
    return Candidates(groups, orders, damages, blocks)


def choose(
    groups: Sequence[Group],
    importances: Sequence[np.ndarray],
    limits: Sequence[Limit],
    shape: Shape,
    ranking: Literal["greedy", "uniform"] = "greedy",
) -> tuple[Cut, ...]:
    return choose_of(candidates(groups, importances), limits, shape, ranking).cuts


def chain(widths: Sequence[int]) -> tuple[list[Group], dict[str, int]]:
    """Layers c0 … cn: 3 -> widths[0] -> … -> 10; each width is a group of two layers."""
    groups = []
    for number, width in enumerate(widths):
        channels = tuple(range(width))
        members = (Member(f"c{number}", "out", channels, width), Member(f"c{number + 1}", "in", channels, width))
        groups.append(Group(f"c{number}", width, members))
    return groups, chain_macs(widths)


def chain_macs(widths: Sequence[int]) -> dict[str, int]:
    sizes = [3, *widths, 10]
    return {f"c{number}": PIXELS * sizes[number] * sizes[number + 1] for number in range(len(sizes) - 1)}


def kept(groups: Sequence[Group], cuts: Sequence[Cut]) -> list[int]:
    gone = {cut.group.root: len(cut.channels) for cut in cuts}
    return [group.width - gone.get(group.root, 0) for group in groups]


def smallest(widths: Sequence[int], block: int) -> list[int]:
    return [min(width, block) for width in widths]


def scores(widths: Sequence[int], seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.random(width) + 0.01 for width in widths]


CASES = {
    "widths": st.lists(st.integers(1, 40), min_size=1, max_size=5),
    "block": st.integers(1, 16),
    "keep": st.floats(0.05, 1.0),
    "seed": st.integers(0, 1000),
}


@settings(max_examples=150, deadline=None)
@given(**CASES)
def test_budget_is_reached_in_whole_blocks_or_the_smallest_reachable_is_named(
    widths: list[int], block: int, keep: float, seed: int
) -> None:
    groups, macs = chain(widths)
    total = sum(macs.values())
    least = sum(chain_macs(smallest(widths, block)).values()) / total
    try:
        cuts = choose(groups, scores(widths, seed), [limit(macs, keep)], Shape(block))
    except ModelError as error:
        assert keep < least + 1e-12
        named = re.search(r"keep at least (\d\.\d{3})$", error.message)
        assert named is not None
        assert float(named[1]) == pytest.approx(least, abs=6e-4)
        return
    left = kept(groups, cuts)
    assert sum(chain_macs(left).values()) <= keep * total * (1 + 1e-9)
    for before, after in zip(widths, left, strict=True):
        assert after == before or (after % block == 0 and after >= block)


@settings(max_examples=60, deadline=None)
@given(**CASES)
def test_the_least_important_channels_of_a_group_go(widths: list[int], block: int, keep: float, seed: int) -> None:
    groups, macs = chain(widths)
    importances = scores(widths, seed)
    try:
        cuts = choose(groups, importances, [limit(macs, keep)], Shape(block))
    except ModelError:
        return
    for cut in cuts:
        importance = importances[groups.index(cut.group)]
        stays = np.delete(importance, cut.channels)
        assert importance[list(cut.channels)].max() <= stays.min()
        assert list(cut.channels) == sorted(set(cut.channels))


def test_keep_all_cuts_nothing() -> None:
    groups, macs = chain([32, 32])
    assert choose(groups, scores([32, 32], 0), [limit(macs, 1.0)], Shape(16)) == ()


def test_the_group_that_loses_less_per_saved_work_goes_first() -> None:
    groups, macs = chain([8, 8])
    cuts = choose(groups, [np.full(8, 1.0), np.full(8, 0.1)], [limit(macs, 0.9)], Shape(4))
    assert kept(groups, cuts) == [8, 4]


def test_no_groups_is_an_error_that_keeps_everything() -> None:
    with pytest.raises(ModelError, match=r"keep at least 1\.000"):
        choose([], [], [limit({"c": 5}, 0.5)], Shape(16))


def test_two_groups_side_by_side_are_counted_by_their_sum() -> None:
    """A concatenation: c reads 8 + 8 channels."""
    one = Group("a", 8, (Member("a", "out", tuple(range(8)), 8), Member("c", "in", tuple(range(8)), 16)))
    two = Group("b", 8, (Member("b", "out", tuple(range(8)), 8), Member("c", "in", tuple(range(8, 16)), 16)))
    cuts = choose([one, two], [np.full(8, 0.1), np.full(8, 9.0)], [limit({"a": 0, "b": 0, "c": 160}, 0.75)], Shape(4))
    assert kept([one, two], cuts) == [4, 8]


def test_channels_that_cannot_be_cut_stay_in_the_count() -> None:
    """c reads 8 channels of the group and 24 others: without half of the group it does 28/32 of its work."""
    group = Group("a", 8, (Member("a", "out", tuple(range(8)), 8), Member("c", "in", tuple(range(8)), 32)))
    cuts = choose([group], [np.ones(8)], [limit({"a": 0, "c": 3200}, 0.88)], Shape(4))
    assert kept([group], cuts) == [4]
    with pytest.raises(ModelError, match=r"keep at least 0\.875"):
        choose([group], [np.ones(8)], [limit({"a": 0, "c": 3200}, 0.8)], Shape(4))


@pytest.mark.parametrize("ranking", ["greedy", "uniform"])
def test_of_two_budgets_both_hold(ranking: Literal["greedy", "uniform"]) -> None:
    groups, macs = chain([32, 48, 32])
    weights = {layer: 100 * (1 + number) for number, layer in enumerate(macs)}
    limits = [limit(macs, 0.6, "keep_macs"), limit(weights, 0.5, "keep_params")]
    cuts = choose(groups, scores([32, 48, 32], 0), limits, Shape(4), ranking)
    left = kept(groups, cuts)
    parts = [3 / 3, *(now / was for now, was in zip(left, [32, 48, 32], strict=True)), 1.0]
    assert sum(chain_macs(left).values()) <= 0.6 * sum(macs.values())
    assert sum(weights[f"c{i}"] * parts[i] * parts[i + 1] for i in range(4)) <= 0.5 * sum(weights.values())


def test_uniform_takes_the_same_part_of_every_group_whatever_matters() -> None:
    groups, macs = chain([64, 32, 16])
    cuts = choose(
        groups, [np.full(64, 9.0), np.full(32, 0.1), np.full(16, 5.0)], [limit(macs, 0.4)], Shape(4), "uniform"
    )
    parts = [left / group.width for left, group in zip(kept(groups, cuts), groups, strict=True)]
    assert max(parts) - min(parts) <= 4 / 16


@settings(max_examples=60, deadline=None)
@given(floor=st.floats(0, 0.99), **CASES)
def test_no_group_falls_below_the_floor(widths: list[int], block: int, keep: float, seed: int, floor: float) -> None:
    groups, macs = chain(widths)
    try:
        cuts = choose(groups, scores(widths, seed), [limit(macs, keep)], Shape(block, floor))
    except ModelError as error:
        assert ("floor" in error.message) == (floor > 0)
        return
    for before, after in zip(widths, kept(groups, cuts), strict=True):
        assert after >= floor * before


def test_narrowest_is_the_smallest_that_choose_can_reach() -> None:
    groups, macs = chain([32, 48])
    choice, found = narrowest(candidates(groups, scores([32, 48], 0)), limit(macs, 0.0), Shape(16))
    assert kept(groups, choice.cuts) == [16, 16]
    assert found == pytest.approx(sum(chain_macs([16, 16]).values()) / sum(macs.values()), rel=1e-12)


def residual(damage: float) -> tuple[Candidates, dict[str, float]]:
    """A stream of 8 channels and a block on it whose own 8 channels are a group; every layer costs 100."""
    stream = tuple(Member(layer, side, tuple(range(8)), 8) for layer, side in (("stem", "out"), ("b.1", "in")))
    stream += tuple(Member(layer, side, tuple(range(8)), 8) for layer, side in (("b.2", "out"), ("head", "in")))
    inner = tuple(Member(layer, side, tuple(range(8)), 8) for layer, side in (("b.1", "out"), ("b.2", "in")))
    groups = [Group("stem", 8, stream), Group("b.1", 8, inner)]
    block = Block("b", ("b.1", "b.2"), damage)
    prices = dict.fromkeys(("stem", "b.1", "b.2", "head"), 100.0)
    return candidates(groups, [np.full(8, 50.0), np.full(8, 2.0)], [block]), prices


def test_a_block_goes_where_it_loses_less_than_its_channels_do() -> None:
    found, prices = residual(damage=1.0)
    choice = choose_of(found, [limit(prices, 0.5)], Shape(4))
    assert (choice.cuts, choice.blocks) == ((), ("b",))


def test_channels_go_where_the_block_would_lose_more() -> None:
    found, prices = residual(damage=1000.0)
    choice = choose_of(found, [limit(prices, 0.75)], Shape(4))
    assert choice.blocks == ()
    assert [(cut.group.root, len(cut.channels)) for cut in choice.cuts] == [("b.1", 4)]


def test_channels_of_a_block_that_goes_are_not_cut_too() -> None:
    """Its channels are cheaper to cut first; when the block goes after all, they are no cut of their own."""
    found, prices = residual(damage=17.0)
    choice = choose_of(found, [limit(prices, 0.5)], Shape(4))
    assert choice == Choice((), ("b",))


def test_what_still_fits_is_given_back() -> None:
    """The first group loses less per saved work, but the second is what the budget needs: the first comes back."""
    groups, macs = chain([8, 64])
    importances = [np.full(8, 0.001), np.full(64, 1.0)]
    left = kept(groups, choose(groups, importances, [limit(macs, 0.55)], Shape(4)))
    for number, width in enumerate(left):
        wider = [*left[:number], width + 4, *left[number + 1 :]]
        assert width == groups[number].width or sum(chain_macs(wider).values()) > 0.55 * sum(macs.values())


class Steps:
    """A price that falls only at 4 channels, as a ragged kernel's does."""

    def __call__(self, inputs: float, outputs: float) -> float:
        return 100.0 if 8 * outputs > 4 else 40.0


def test_a_width_that_saves_nothing_is_passed_over_for_one_that_does() -> None:
    group = Group("a", 8, (Member("a", "out", tuple(range(8)), 8),))
    cuts = choose([group], [np.ones(8)], [Limit("keep_latency", {"a": Steps()}, 0.5)], Shape(1))
    assert kept([group], cuts) == [4]


def test_the_floor_is_of_the_width_before_any_cut() -> None:
    groups, macs = chain([16])
    found = candidates(groups, scores([16], 0))
    once_wider = Candidates(found.groups, found.order, found.damage, (), originals=[32])
    with pytest.raises(ModelError, match=r"a floor of 0\.5 keep at least 1\.000"):
        choose_of(once_wider, [limit(macs, 0.9)], Shape(4, 0.5))
    assert kept(groups, choose_of(found, [limit(macs, 0.5)], Shape(4, 0.5)).cuts) == [8]


def test_groups_and_blocks_that_turn_out_rigid_are_left_out() -> None:
    found, prices = residual(damage=1.0)
    rest = found.without({"b.1", "b"})
    assert [group.root for group in rest.groups] == ["stem"]
    assert rest.blocks == []
    assert choose_of(rest, [limit(prices, 0.75)], Shape(4)).blocks == ()
