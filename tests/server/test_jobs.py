"""Jobs wait in order, end once, and take their files along."""

import asyncio

import pytest

from deepfidelity_jax.server.jobs import Jobs
from deepfidelity_jax.server.messages import Limits
from deepfidelity_jax.server.refusal import Refused

LIMITS = Limits(jobs=4, kept_jobs=2, kept_seconds=600)


def within(folder, limits=LIMITS):
    """Run a coroutine function of Jobs."""

    def decorate(function):
        return asyncio.run(function(Jobs(folder, limits)))

    return decorate


def add(jobs, name="a.jpg"):
    with jobs.arriving() as (id, folder):
        (folder / name).write_bytes(b"picture")
        return jobs.add(id, folder / name)


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_first_come_first_served(tmp_path):
    @within(tmp_path)
    async def _(jobs):
        first, second, third = (add(jobs, name) for name in "abc")
        assert [job.view()["position"] for job in (first, second, third)] == [1, 2, 3]
        assert await jobs.take() is first
        jobs.remove(second)
        assert second.view()["state"] == "cancelled"
        assert third.view()["position"] == 1
        jobs.put_back(first)
        assert [first.view()["position"], third.view()["position"]] == [1, 2]
        assert [await jobs.take(), await jobs.take()] == [first, third]
        assert files(tmp_path) == ["a", "c"]


def test_a_job_ends_once_and_its_file_goes(tmp_path):
    @within(tmp_path)
    async def _(jobs):
        job, stopped = add(jobs), []
        await jobs.take()
        job.begin(lambda: stopped.append(True))
        job.hear({"step": "looking", "share": 7})
        assert (job.view()["step"], job.view()["share"]) == ("looking", 1.0)
        job.hear({"prediction": {"status": "real"}})
        job.page.write_text("page")
        jobs.end(job)
        job.fail("too_slow", "late")
        job.cancel()
        view = job.view()
        assert (view["state"], view["error"], view["step"]) == ("done", None, None)
        assert view["page"] == f"/api/jobs/{job.id}/page"
        assert files(tmp_path) == ["page.html"]
        jobs.remove(job)
        assert not list(tmp_path.iterdir())
        with pytest.raises(Refused, match="no such job"):
            jobs.find(job.id)


@pytest.mark.parametrize("end", ["cancel", "fail"])
def test_who_is_not_wanted_any_more_is_stopped(tmp_path, end):
    @within(tmp_path)
    async def _(jobs):
        job, stopped = add(jobs), []
        await jobs.take()
        job.begin(lambda: stopped.append(True))
        if end == "cancel":
            jobs.remove(job)
            assert files(tmp_path) == ["a.jpg"], "its worker may still read it"
        else:
            job.fail("too_slow", "late", 5)
        job.hear({"prediction": {"status": "real"}})  # what was on its way
        assert stopped
        assert (job.ended, job.view()["prediction"]) == (True, None)
        jobs.end(job)
        assert not files(tmp_path)


def test_ended_jobs_are_kept_for_a_while(tmp_path):
    @within(tmp_path, Limits(jobs=4, kept_jobs=2, kept_seconds=1))
    async def _(jobs):
        ended = [add(jobs) for _ in range(3)]
        for job in ended:
            jobs.remove(job)
        assert jobs.find(ended[0].id)
        add(jobs)
        with pytest.raises(Refused):  # the oldest of three makes room
            jobs.find(ended[0].id)
        assert jobs.find(ended[1].id)
        await asyncio.sleep(1.1)
        with pytest.raises(Refused):
            jobs.find(ended[1].id)


def test_changes_are_told_to_everybody_until_the_end(tmp_path):
    @within(tmp_path)
    async def _(jobs):
        job = add(jobs)

        async def listen():
            return [view["state"] async for view in job.changes()]

        listeners = [asyncio.create_task(listen()) for _ in range(3)]
        await asyncio.sleep(0)
        await jobs.take()
        job.begin(lambda: None)
        await asyncio.sleep(0.01)
        job.hear({"error": {"type": "too_long", "message": "long", "limit": 1}})
        told = await asyncio.wait_for(asyncio.gather(*listeners), 5)
        assert told == [["queued", "running", "failed"]] * 3


def test_nothing_is_taken_where_nobody_works(tmp_path):
    @within(tmp_path)
    async def _(jobs):
        jobs.broken = "no process starts"
        with pytest.raises(Refused, match="no process starts") as caught:
            add(jobs)
        assert (caught.value.status, caught.value.error.type) == (503, "no_worker")
        assert not list(tmp_path.iterdir())
