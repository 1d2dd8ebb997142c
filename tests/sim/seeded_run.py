"""A run with cancellations and closing in it. `python -m tests.sim.seeded_run SEED` prints its history's digest."""

from __future__ import annotations

import asyncio
import random
import sys

from broker_sim.cluster import Cluster
from broker_sim.simulation import simulate
from rocketmq_aio import Message, Producer, ProducerConfig, RocketMQError, Window


def digest(seed: int) -> tuple[str, int]:
    """The digest of the history of a run with this seed, and how many messages were acknowledged."""

    async def main(cluster: Cluster) -> tuple[str, int]:
        dice = random.Random(seed)
        acknowledged = 0

        async def life(number: int) -> None:
            nonlocal acknowledged
            window = Window(messages_max=dice.randint(2, 30))
            config = ProducerConfig(window=window, drain=dice.choice([0.0, 0.001, 1.0]))
            producer = Producer(
                f"g{number}", namesrv=cluster.namesrv, environment=cluster.environment, config=config
            )
            async with producer:
                sends = []
                for n in range(dice.randint(20, 60)):
                    send = producer.send_oneway if dice.random() < 0.1 else producer.send
                    sends.append(asyncio.create_task(send(Message("T", b"%d" % n, tags=str(number)))))
                    if dice.random() < 0.5:
                        await asyncio.sleep(dice.random() * 0.001)
                    if dice.random() < 0.3:
                        dice.choice(sends).cancel()
                if dice.random() < 0.5:
                    await producer.aclose()
                for outcome in await asyncio.gather(*sends, return_exceptions=True):
                    if isinstance(outcome, BaseException):
                        assert isinstance(outcome, RocketMQError | asyncio.CancelledError), outcome
                    elif outcome is not None:
                        acknowledged += 1

        lives = [asyncio.create_task(life(number)) for number in range(6)]
        await asyncio.sleep(0.01)
        await cluster.broker("broker-b").stop()
        await asyncio.sleep(0.01)
        await cluster.broker("broker-b").start()
        lives += [asyncio.create_task(life(number)) for number in range(6, 9)]
        for life_task in lives:
            await life_task
        await asyncio.sleep(65)
        return cluster.digest(), acknowledged

    return simulate.run(main, seed=seed, brokers=3, topics={"T": 4})


if __name__ == "__main__":
    print(*digest(int(sys.argv[1])))
