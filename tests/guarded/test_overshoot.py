"""The table of tests/test_overshoot.py through guarded clients: no ceiling is passed, counted by the provider."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from guarded.kit import WAYS, Desk, a_desk
from test_overshoot import CEILING, SERIES, TEXTS, WORKERS, repeated

from donewhen.errors import CircuitBreakerError
from donewhen.testing import Answer, ProviderRequest, one_token_per_byte

STRICT = {"tokens": CEILING, "provided": {"count": one_token_per_byte}}


def allowed(desk: Desk, text: str, most: int, *, streams: bool) -> bool:
    """Make one call; tell whether it was allowed."""
    try:
        (desk.stream if streams else desk.ask)(text, most)
    except CircuitBreakerError:
        return False
    return True


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SERIES)
def test_no_series_passes_the_ceiling(tmp_store, way, name) -> None:
    answers = [output for _, output in SERIES[name]]
    turn = iter(answers)
    said: dict[str, int] = {}

    def answer(request: ProviderRequest) -> Answer:
        asked = request.body.get("input") or request.body["messages"][0]["content"]
        return Answer("b" * said[asked.partition(" ")[0]])

    with a_desk(way, tmp_store, answer, **STRICT) as desk:
        came: list[bool] = []
        for number, (size, most) in enumerate(SERIES[name]):
            said[str(number)] = next(turn)
            came.append(allowed(desk, f"{number} " + "a" * (size - 3), most, streams=number % 2 == 1))
        assert desk.provider.served.total <= CEILING
        assert sum(came) == len(desk.provider.requests) >= 3
        assert not all(came)
        desk.assert_books_agree()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", TEXTS)
def test_no_kind_of_text_passes_the_ceiling(tmp_store, way, name) -> None:
    answer = Answer(repeated(TEXTS[name], 400))
    with a_desk(way, tmp_store, lambda _request: answer, **STRICT) as desk:
        came = [
            allowed(desk, repeated(TEXTS[name], length), 1_024, streams=streams)
            for length, streams in [
                (10, False),
                (300, True),
                (20, False),
                (300, False),
                (1, True),
                (300, True),
                (1, False),
            ]
        ]
        assert desk.provider.served.total <= CEILING
        assert any(came)
        desk.assert_books_agree()


@pytest.mark.parametrize("way", [way for way in WAYS if not way.startswith("async")])
def test_eight_threads_share_one_client_and_stay_below_its_ceiling(tmp_store, way) -> None:
    with a_desk(way, tmp_store, lambda _request: Answer("b" * 3_000), **STRICT) as desk:
        barrier, errors = threading.Barrier(WORKERS), []

        def run(number: int) -> None:
            try:
                barrier.wait()
                came = [allowed(desk, "a" * 100 * (number + 1), 150, streams=at % 2 == 1) for at in range(8)]
                assert not all(came)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert CEILING * 0.8 < desk.provider.served.total <= CEILING
        desk.assert_books_agree()


@pytest.mark.parametrize("way", [way for way in WAYS if way.startswith("async")])
def test_eight_tasks_share_one_client_and_stay_below_its_ceiling(tmp_store, way) -> None:
    with a_desk(way, tmp_store, lambda _request: Answer("b" * 3_000), **STRICT) as desk:

        async def work(number: int) -> None:
            for at in range(8):
                arguments: dict[str, Any] = desk.arguments("a" * 100 * (number + 1), 150, stream=at % 2 == 1)
                try:
                    response = await desk.endpoint().create(**arguments)
                except CircuitBreakerError:
                    continue
                if at % 2 == 1:
                    assert [event async for event in response]

        async def main() -> None:
            await asyncio.gather(*[work(number) for number in range(WORKERS)])

        desk.run(main())
        assert CEILING * 0.8 < desk.provider.served.total <= CEILING
        desk.assert_books_agree()
