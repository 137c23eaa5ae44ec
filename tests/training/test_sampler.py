"""M-per-class batches end, see every class, and are never of one picture or one class."""

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cgdcli.training.sampler import ClassBatches


@st.composite
def samplers(draw):
    """2 to 200 classes of 1 to 60 pictures, small ones more often, in any order."""
    count = draw(st.integers(2, 12) | st.integers(2, 200))
    size = st.integers(1, 3) | st.integers(1, 60)
    sizes = draw(st.lists(size, min_size=count, max_size=count))
    labels = [label for label, number in enumerate(sizes) for _ in range(number)]
    draw(st.randoms(use_true_random=False)).shuffle(labels)
    per_class = draw(st.integers(2, 8))
    batch_size = max(per_class, draw(st.integers(2, 130)))
    return labels, batch_size, per_class, draw(st.integers(0, 5))


def make(sampler):
    labels, batch_size, per_class, seed = sampler
    return ClassBatches(labels, batch_size=batch_size, per_class=per_class, seed=seed)


@settings(max_examples=200, deadline=None)
@given(samplers(), st.integers(1, 3))
def test_an_epoch_keeps_every_promise(sampler, number):
    labels, batch_size, per_class, _ = sampler
    batches = make(sampler).epoch(number)
    assert {labels[p] for batch in batches for p in batch} == set(labels)
    for batch in batches:
        counts = Counter(labels[p] for p in batch)
        assert len(set(batch)) == len(batch)
        assert len(batch) >= 2 and len(counts) >= 2
        assert max(counts.values()) <= per_class
        # Two classes are wanted even where their pictures would not fit.
        assert len(batch) <= max(batch_size, per_class + 2)


@settings(max_examples=60, deadline=None)
@given(samplers())
def test_an_epoch_is_a_function_of_seed_and_number(sampler):
    one, other = make(sampler), make(sampler)
    later = one.epoch(4)
    assert one.epoch(3) == other.epoch(3)
    assert other.epoch(4) == later
    assert len(later) == one.steps


@settings(max_examples=60, deadline=None)
@given(samplers())
def test_a_class_of_two_or_more_gives_pairs(sampler):
    """Batch-hard triplets need a positive: no class is cut down to a single picture, where a batch
    has room for two pairs."""
    labels = sampler[0]
    sizes = Counter(labels)
    assume(make(sampler).batch_size >= 4)
    for batch in make(sampler).epoch(1):
        for label, count in Counter(labels[p] for p in batch).items():
            assert count >= min(2, sizes[label])


@settings(max_examples=60, deadline=None)
@given(samplers())
def test_no_batch_is_larger_than_asked_for(sampler):
    asked = max(2, sampler[1])
    assert max(map(len, make(sampler).epoch(2))) <= asked


@settings(max_examples=200, deadline=None)
@given(samplers(), st.integers(1, 3))
def test_no_batch_is_smaller_than_the_smallest(sampler, number):
    """Every process of a run has a picture of each, if there are no more processes than that."""
    batches = make(sampler)
    assert min(map(len, batches.epoch(number))) >= batches.smallest


def test_seed_and_epoch_change_the_draw():
    labels = [i % 40 for i in range(400)]
    drawn = [
        ClassBatches(labels, batch_size=32, per_class=4, seed=seed).epoch(number)
        for seed in range(3)
        for number in range(1, 4)
    ]
    assert all(drawn[i] != drawn[j] for i in range(9) for j in range(i))


def test_plenty_of_pictures_fill_every_batch():
    labels = [i % 40 for i in range(1600)]
    sampler = ClassBatches(labels, batch_size=32, per_class=4, seed=0)
    assert sampler.steps == 50
    for batch in sampler.epoch(1):
        assert sorted(Counter(labels[p] for p in batch).values()) == [4] * 8


def test_an_epoch_shows_nearly_every_picture_of_even_classes():
    labels = [i % 10 for i in range(200)]
    sampler = ClassBatches(labels, batch_size=40, per_class=4, seed=0)
    shown = Counter(p for batch in sampler.epoch(1) for p in batch)
    assert set(shown) == set(range(200)) and set(shown.values()) == {1}


@pytest.mark.parametrize("classes", range(2, 33))
def test_below_32_classes_it_ends_too(classes):
    """The reference's sampler loops for ever there."""
    labels = [i % classes for i in range(classes * 5)]
    batches = ClassBatches(labels, batch_size=128, per_class=4, seed=0).epoch(1)
    assert {labels[p] for batch in batches for p in batch} == set(range(classes))


@pytest.mark.parametrize("labels", [[], [0], [3, 3, 3]])
def test_fewer_than_two_classes_are_refused(labels):
    with pytest.raises(ValueError, match="at least 2 classes"):
        ClassBatches(labels, batch_size=8, per_class=2, seed=0)
