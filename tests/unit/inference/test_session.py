"""Cores that this process may use."""

import os

import pytest

from gannet_inference import session


@pytest.mark.parametrize(
    "quota,cores",
    [("max 100000\n", 4), ("250000 100000\n", 2), ("50000 100000\n", 1), ("900000 100000\n", 4), ("", 4)],
)
def test_cores_available_is_the_smaller_of_affinity_and_quota(tmp_path, monkeypatch, quota, cores):
    """A container's quota counts whole cores, at least one; no quota leaves the affinity."""
    (tmp_path / "cpu.max").write_text(quota, encoding="utf-8")
    monkeypatch.setattr(session, "_CGROUP_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})

    assert cores == session.cores_available()


def test_cores_available_without_cgroups_is_the_affinity(tmp_path, monkeypatch):
    """A machine without that file is no error."""
    monkeypatch.setattr(session, "_CGROUP_QUOTA", tmp_path / "absent")

    assert len(os.sched_getaffinity(0)) == session.cores_available()
