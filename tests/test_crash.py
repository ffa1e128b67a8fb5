"""Files survive crashes at any moment, writes that fail, and writers that are killed."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from crash import Crash, SimulatedFileSystem, Writer, kill

from egwalker import StorageError, egw_file

OUTCOMES = 40
"""So many states are tried of those that a power loss may leave."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are compacted early."""
    monkeypatch.setattr(egw_file, "MIN_UPDATES", 300)


def calls_of_work() -> list[str]:
    fs = SimulatedFileSystem()
    Writer(fs).work()
    return fs.calls


def crashed(at: int) -> Writer:
    """A writer whose process ended within its call number `at`."""
    writer = Writer(SimulatedFileSystem())
    writer.fs.crash_at = at
    with pytest.raises(Crash):
        writer.work()
    return writer


def test_the_workload_does_everything() -> None:
    calls = calls_of_work()
    assert {"create", "link", "unlink", "write", "sync", "sync_folder", "truncate", "rename"} <= set(calls)
    assert calls.count("rename") >= 3, "by size, when asked to, on closing"


@pytest.mark.parametrize("at", range(1, len(calls_of_work()) + 1))
def test_power_fails_at_any_call(at: int) -> None:
    """And again, while the next writer recovers and goes on."""
    first = crashed(at)
    for seed in range(OUTCOMES):
        rng = Random(f"{at} {seed}")
        second = first.succeeds(first.fs.after_power_loss(rng))
        second.fs.crash_at = rng.randint(1, 25)
        try:
            second.goes_on()
        except Crash:
            fs = second.fs.after_power_loss(rng) if rng.random() < 0.7 else second.fs.after_kill()
            second.succeeds(fs).goes_on()


@pytest.mark.parametrize("at", range(1, len(calls_of_work()) + 1))
def test_killed_at_any_call_then_power_fails(at: int) -> None:
    """What a killed process has left unsynced, the next one must not take to be stored."""
    first = crashed(at)
    for seed in range(OUTCOMES):
        rng = Random(f"{at} {seed}")
        second = first.succeeds(first.fs.after_kill())
        second.fs.crash_at = rng.randint(1, 25)
        try:
            second.goes_on()
        except Crash:
            second.succeeds(second.fs.after_power_loss(rng)).goes_on()


def fault_once(at: int, code: int) -> Callable[[int, str], int | None]:
    return lambda number, name: code if number == at else None


def fault_from(at: int, code: int) -> Callable[[int, str], int | None]:
    """From then on everything fails; nothing that was written can be cut off again."""
    return lambda number, name: None if number < at else abs(code) if name == "truncate" else code


def failure(work: Callable[[], object]) -> OSError | None:
    try:
        work()
    except OSError as error:
        return error
    return None


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, -errno.ENOSPC, errno.EIO, -errno.EIO])
def test_any_call_fails(code: int, lasting: bool) -> None:
    """Typed errors only, no acknowledgement; what was acknowledged is there, now and after a crash."""
    failures = 0
    for at in range(1, len(calls_of_work()) + 1):
        writer = Writer(SimulatedFileSystem())
        writer.fs.fault = (fault_from if lasting else fault_once)(at, code)
        error = failure(writer.work)
        if error is not None:
            failures += 1
            assert isinstance(error, StorageError) or writer.fs.calls[at - 1] in ("open", "lock", "read")
            assert error.errno == abs(code)
        for seed in range(4):
            rng = Random(f"{at} {seed}")
            second = writer.succeeds(writer.fs.after_kill() if seed < 2 else writer.fs.after_power_loss(rng))
            second.fs.crash_at = rng.randint(5, 40) if seed < 2 else 0
            try:
                second.goes_on()
            except Crash:
                second.succeeds(second.fs.after_power_loss(rng)).goes_on()
    assert failures > 30


@pytest.mark.parametrize("seed", range(60))
def test_one_mishap_after_another(seed: int) -> None:
    """Writers that do this and that, each ended by a crash, a kill or a fault, on one file system."""
    rng = Random(f"mishaps {seed}")
    writer = Writer(SimulatedFileSystem(), seed)
    ends = set()
    for _ in range(30):
        fs = writer.fs
        if rng.random() < 0.6:
            fs.crash_at = rng.randint(1, 60)
        if rng.random() < 0.6:
            choose = fault_from if rng.random() < 0.3 else fault_once
            fs.fault = choose(rng.randint(1, 40), rng.choice([1, -1]) * rng.choice([errno.EIO, errno.ENOSPC]))
        try:
            writer.open()
            for _ in range(rng.randint(0, 12)):
                if rng.random() < 0.2:
                    writer.compact()
                else:
                    rng.choice([writer.edit, writer.commit, writer.commit])(rng.choice([0, 0, 0, 50, 200]))
            if rng.random() < 0.7:
                writer.close()
            ends.add("done")
        except OSError:
            ends.add("failed")
        except Crash:
            ends.add("crashed")
        writer = writer.succeeds(fs.after_power_loss(rng) if rng.random() < 0.5 else fs.after_kill())
    assert ends == {"done", "failed", "crashed"}
    writer.goes_on()


def test_a_failed_sync_that_is_forgotten() -> None:
    """The system shows the next process a record that it has given up storing."""
    writer = Writer(SimulatedFileSystem())
    writer.open()
    writer.commit()
    writer.fs.fault = lambda number, name: {"sync": -errno.EIO, "truncate": errno.EIO}.get(name)
    assert failure(writer.commit) is not None
    second = writer.succeeds(writer.fs.after_kill())
    second.open()
    assert second.acknowledged > writer.acknowledged, "it is there"
    second.commit()
    second.succeeds(second.fs.only_stored()).goes_on()


def test_short_writes_are_continued() -> None:
    fs = SimulatedFileSystem()
    fs.fault = lambda number, name: 0 if name == "write" and number % 3 else None
    Writer(fs).work()
    assert len(fs.calls) > len(calls_of_work())


def test_writers_are_killed(tmp_path: Path) -> None:
    kills = kill(25, tmp_path, seed=1)
    assert not kills.errors, kills.errors
    assert kills.kills == 25
    assert kills.acknowledged > 100
