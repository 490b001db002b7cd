"""What processes say of themselves in memory that they share."""

import os
import time

from pipelit.engine.board import Board


def test_what_runs_is_read_as_it_was_noted() -> None:
    board = Board(slots=4)
    before = time.monotonic()

    board.slot(2).note("execution:a:each:1:a1", 30.0)

    ((index, found),) = board.running()
    assert (index, found.pid, found.task, found.limit) == (2, os.getpid(), "execution:a:each:1:a1", 30.0)
    assert before <= found.started <= time.monotonic()


def test_what_has_ended_is_not_there_any_more() -> None:
    board = Board(slots=4)
    slot = board.slot(1)
    slot.note("first", 1.0)

    slot.clear()

    assert list(board.running()) == []


def test_a_process_that_takes_anothers_place_takes_its_slot() -> None:
    board = Board(slots=4)
    board.slot(0).note("of a process that was killed", 1.0)

    slot = board.slot(0)

    assert list(board.running()) == []
    slot.note("its successor's", 1.0)
    assert [found.task for _, found in board.running()] == ["its successor's"]


def test_a_process_sees_what_its_child_notes() -> None:
    board = Board(slots=4)
    child = os.fork()
    if not child:
        board.slot(3).note("the child's", 5.0)
        os._exit(0)
    os.waitpid(child, 0)

    ((_, found),) = board.running()

    assert (found.pid, found.task) == (child, "the child's")
