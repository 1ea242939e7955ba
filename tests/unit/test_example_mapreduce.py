"""The parts of examples/mapreduce that need neither network nor processes."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "mapreduce"

FILES = {
    "a.py": "def one():\n    return one\n",
    "b.py": "# One, two\n",
    "empty.py": "",
}


def load(name: str) -> Any:
    """A module of the example; jobs find it beside them, tests by its path."""
    spec = importlib.util.spec_from_file_location(f"mapreduce_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


counting, board = load("counting"), load("board")


def test_an_index_has_each_line_in_which_a_word_stands() -> None:
    assert counting.index_of_all(FILES)["one"] == {"a.py": [1, 2], "b.py": [1]}
    assert counting.totals(counting.index_of_all(FILES)) == {
        "words": 6,
        "distinct_words": 4,
        "entries": 5,
    }
    assert counting.top_words(counting.index_of_all(FILES), 2) == [("one", 3), ("def", 1)]


@pytest.mark.parametrize("partitions", [1, 2, 7])
def test_mapping_and_reducing_gives_what_a_count_in_one_go_gives(partitions: int) -> None:
    mapped = [counting.map_files({name: text}, partitions) for name, text in FILES.items()]
    index: dict[str, Any] = {}
    for number in range(partitions):
        index.update(counting.reduce_parts([parts[number] for parts in mapped]))
    assert index == counting.index_of_all(FILES)


def test_a_lost_part_is_noticed() -> None:
    parts = counting.map_files(FILES, 2)
    assert counting.reduce_parts(parts[:1]) != counting.index_of_all(FILES)


def test_a_task_given_back_is_handed_out_again() -> None:
    tasks = board.Board()
    results: list[Any] = []
    job = [{"id": "only"}]
    runner = threading.Thread(target=lambda: results.extend(tasks.run("map", job, 5)))
    tasks.slave_came()
    runner.start()
    tasks.give_back(tasks.take())
    tasks.done(tasks.take(), {"answer": 42})
    runner.join(5)
    assert results == [{"answer": 42}]
    tasks.close()
    assert tasks.take() is None


def test_a_task_that_breaks_every_slave_ends_the_work() -> None:
    tasks = board.Board()
    tasks.slave_came()

    def break_slaves() -> None:
        for _ in range(board.MOST_TRIES):
            tasks.give_back(tasks.take())

    breaker = threading.Thread(target=break_slaves)
    breaker.start()
    with pytest.raises(board.Hopeless, match="one map task was lost"):
        tasks.run("map", [{"id": "poison"}], 5)
    breaker.join(5)


def test_without_any_slave_the_work_ends_with_a_reason() -> None:
    with pytest.raises(board.Hopeless, match="no slave has come"):
        board.Board().wait_for_slaves(1, 0.01)
    with pytest.raises(board.Hopeless, match="no slave is left"):
        board.Board().run("map", [{"id": "lonely"}], 0.01)
