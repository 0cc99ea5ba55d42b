"""A grid has every combination once, and shards have every subject of every variant once."""

import itertools
from pathlib import Path

import h5py
import pytest

from cortexff.errors import CortexffError
from cortexff.graph import load_model
from cortexff.protocol import provenance
from cortexff.protocol.loading import load_protocol
from cortexff.protocol.sweep import Point, Shard, cut, grid, path_of, prepare


def point(out: Path = Path("a.h5"), subjects: int = 4, name: str = "sleep_deprivation", seed: int = 0) -> Point:
    protocol = load_protocol(name, "quick", {"test": {"subjects": subjects, "seed": seed}})
    net = load_model(protocol.model)
    return Point("", protocol, net, provenance.origin(protocol, net, name, "quick"), out)


def test_a_grid_has_all_combinations():
    points = grid(
        ["plasticity.learning_rate=2, 5.0", "stimuli.negatives=hard_labels,random_labels", "readout.steps=[3,5]"]
    )
    assert list(points) == [
        f"learning_rate={rate} negatives={kind}_labels steps=[3, 5]"
        for rate, kind in itertools.product(("2", "5.0"), ("hard", "random"))
    ]
    settings = list(points.values())[1]
    assert list(settings.values()) == [
        {"plasticity": {"learning_rate": 2}},
        {"stimuli": {"negatives": "random_labels"}},
        {"readout": {"steps": [3, 5]}},
    ]
    assert "--sweep plasticity.learning_rate=2" in settings
    assert grid([]) == {"": {}}


def test_points_are_named_by_what_tells_them_apart():
    assert list(grid(["stages.sleep.updates=1", "stages.oversleep.updates=2"])) == [
        "stages.sleep.updates=1 stages.oversleep.updates=2"
    ]
    assert path_of(Path("r/quick.h5"), "steps=[3, 5] model=my/net.yaml") == Path(
        "r/quick.sweep/steps=_3,_5_model=my_net.yaml.h5"
    )
    assert path_of(Path("r/quick.h5"), "") == Path("r/quick.h5")


@pytest.mark.parametrize("text", ["seed", "=1", "seed=", "seed=1,1", "seed=1,,2", "seed=[", "a=1]"])
def test_a_mistaken_grid_is_one_line(text):
    with pytest.raises(CortexffError, match="--sweep"):
        grid([text])


@pytest.mark.parametrize(
    ("jobs", "subjects", "name"),
    list(itertools.product([1, 2, 3, 4, 7], [1, 3, 8], ["recurrent", "sleep_deprivation"])),
)
def test_every_subject_is_in_one_shard_of_each_variant(jobs, subjects, name):
    points = [point(Path("a.h5"), subjects, name), point(Path("b.h5"), subjects, name)]
    shards = cut(points, jobs)
    for whole, variant in itertools.product(points, points[0].protocol.variants):
        mine = [shard.subjects for shard in shards if (shard.point, shard.variant) == (whole, variant)]
        assert list(itertools.chain(*mine)) == list(range(subjects))
        assert max(map(len, mine)) - min(map(len, mine)) <= 1
    assert len({shard.path for shard in shards}) == len(shards)


@pytest.mark.parametrize(("jobs", "shards"), [(1, 2), (2, 2), (3, 6), (4, 4), (100, 8)])
def test_variants_are_shared_out_before_subjects(jobs, shards):
    assert len(cut([point()], jobs)) == shards


def begin(shard: Shard, status: str = "interrupted") -> Path:
    with provenance.open_log(shard.path, shard.point.protocol, shard.point.net, 10, shard.point.origin) as log:
        log.close(status)
    return shard.path


def test_nothing_is_overwritten_or_resumed_by_mistake(tmp_path):
    whole = point(tmp_path / "a.h5")
    with pytest.raises(CortexffError, match=r"--resume: there is no .*a\.shards"):
        prepare([whole], 2, resume=True, overwrite=False)
    shards = prepare([whole], 2, resume=False, overwrite=False)
    path = begin(shards[0])
    with pytest.raises(CortexffError, match=r"a\.shards exists"):
        prepare([whole], 2, resume=False, overwrite=False)
    assert prepare([whole], 2, resume=True, overwrite=False) == shards
    with pytest.raises(CortexffError, match=r"max_0-3\.h5 is of a run with another number of --jobs"):
        prepare([whole], 4, resume=True, overwrite=False)
    with pytest.raises(CortexffError, match=r"max_0-3\.h5 was begun with other settings \(seed was 0, now 1\)"):
        prepare([point(tmp_path / "a.h5", seed=1)], 2, resume=True, overwrite=False)
    assert path.exists()
    prepare([whole], 2, resume=False, overwrite=True)
    assert not path.exists()


def test_what_was_stopped_before_it_began_can_be_resumed(tmp_path):
    shards = prepare([point(tmp_path / "a.h5")], 2, resume=False, overwrite=False)
    assert len(prepare([point(tmp_path / "a.h5")], 2, resume=True, overwrite=False)) == len(shards)
    (tmp_path / "file").write_text("")
    with pytest.raises(CortexffError, match=r"cannot write .*file/a\.h5"):
        prepare([point(tmp_path / "file" / "a.h5")], 2, resume=False, overwrite=False)


def test_points_that_are_finished_are_left_alone(tmp_path):
    one, two = point(tmp_path / "a.h5"), point(tmp_path / "b.h5")
    with provenance.open_log(one.out, one.protocol, one.net, 10, one.origin):
        pass
    assert {shard.point.out for shard in prepare([one, two], 2, resume=True, overwrite=False)} == {two.out}
    with pytest.raises(CortexffError, match=r"a\.h5 finished; nothing is left to run"):
        prepare([one], 2, resume=True, overwrite=False)
    with h5py.File(one.out, "r+") as file:
        file.attrs["status"] = "interrupted"
    with pytest.raises(CortexffError, match=r"a\.h5 was begun as one run"):
        prepare([one], 2, resume=True, overwrite=False)
