"""Salts of user ids: shared by processes, one per period, and deleted after a while."""

import stat
import threading

import pytest
from log_answers import NOON, answer, settings
from test_serving_log import read

from fairness_losses.errors import InvalidInputError
from serving.log.salts import Salts, hash_ids, kept_salts, read_salt
from serving.log.writer import ListLog

DAY = 86_400


def test_a_salt_holds_for_its_period_and_for_all_who_share_the_folder(tmp_path):
    mine, other = Salts(tmp_path, DAY, 7), Salts(tmp_path, DAY, 7)
    monday = mine.start_of(NOON)
    assert monday == NOON - DAY / 2
    assert mine.start_of(monday + DAY - 0.001) == monday
    assert mine.start_of(monday + DAY) == monday + DAY
    assert mine.salt(monday) == other.salt(monday) == read_salt(tmp_path, monday)
    assert mine.salt(monday) != mine.salt(monday + DAY)
    assert len(mine.salt(monday)) == 32


def test_processes_that_make_a_salt_at_once_agree(tmp_path):
    found = []
    start = threading.Barrier(16)

    def make() -> None:
        salts = Salts(tmp_path, DAY, 7)
        start.wait()
        found.append(salts.salt(0))

    threads = [threading.Thread(target=make) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(found)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["0.salt"]


def test_only_the_owner_can_read_salts(tmp_path):
    folder = tmp_path / "salts"
    Salts(folder, DAY, 7).salt(0)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "0.salt").stat().st_mode) == 0o600
    folder.chmod(0o750)
    with pytest.raises(InvalidInputError, match=r"mode 750\). Run `chmod 700"):
        Salts(folder, DAY, 7)


def test_old_salts_are_deleted_and_the_kept_ones_are_those_asked_for(tmp_path):
    salts = Salts(tmp_path, DAY, 3)
    for day in range(6):
        salts.salt(day * DAY)
        assert kept_salts(tmp_path) == [d * DAY for d in range(max(0, day - 2), day + 1)]
    assert read_salt(tmp_path, 0) is None


def test_a_hash_depends_on_the_salt_and_on_nothing_else():
    """Pinned: other hashes would part logs of old servers from those of new ones."""
    salt, expected = bytes(range(32)), "0b6c2f05a174a0e82f2ac751f14e3a20"
    assert hash_ids(["u1", "u2", "u1"], salt)[::2] == [expected, expected]
    assert hash_ids(["u1"], bytes(32)) != [expected]


def test_the_lists_of_a_user_are_linked_within_a_period_and_not_across(tmp_path):
    log = ListLog(settings(tmp_path, salt_period=DAY))
    for hours in (0, 3, 11, 13):
        log.append(answer(["u1"], seconds=NOON + 3600 * hours))
    log.close()
    lists = read(tmp_path)
    first, second, third, tomorrow = lists["user_hash"].to_pylist()
    assert first == second == third != tomorrow
    midnight = int(NOON) - DAY // 2
    assert lists["salt"].to_pylist() == [midnight] * 3 + [midnight + DAY]
