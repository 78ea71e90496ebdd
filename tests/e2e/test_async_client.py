"""The client to be awaited, against the real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from graddx import AsyncClient

EXAMPLES = Path(__file__).parents[2] / "examples"
SICK = EXAMPLES / "vanishing_sigmoid_mlp.json"
HEALTHY = EXAMPLES / "healthy_mlp.json"
IMAGES = {"inputs": [{"shape": [3, 32, 32]}]}


def test_many_models_at_a_time(server: str, models: Path) -> None:
    async def main() -> dict[str, str]:
        async with AsyncClient(server) as client, asyncio.TaskGroup() as group:
            tasks = {
                "sick": group.create_task(client.analyze(SICK)),
                "healthy": group.create_task(client.analyze(HEALTHY)),
                "file": group.create_task(client.analyze(models / "healthy.pt", probe=IMAGES)),
            }
        return {name: task.result().diagnosis.verdict for name, task in tasks.items()}

    assert asyncio.run(main()) == {"sick": "unhealthy", "healthy": "healthy", "file": "healthy"}


def test_events_lists_and_files(server: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(server) as client:
            submitted = await client.submit(SICK, labels={"test": "awaited"}, fresh=True)
            percents = [one.percent or 0 async for one in client.events(submitted.id)]
            assert percents == sorted(percents)
            assert percents[-1] == 100
            listed = [one.id async for one in client.list(labels={"test": "awaited"})]
            assert listed == [submitted.id]
            weights = await client.download_state_dict(submitted.id, tmp_path / "w.safetensors")
            assert weights.stat().st_size > 0

    asyncio.run(main())


def test_a_cancelled_task_leaves_nothing_running(server: str) -> None:
    async def main() -> str:
        async with AsyncClient(server) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.analyze(
                        SICK, fresh=True, labels={"test": "left"}, probe={"seeds": 8}
                    )
            (one,) = [one async for one in client.list(labels={"test": "left"})]
            return one.status

    assert asyncio.run(main()) == "cancelled"
