"""Starts ministack with what the local stack needs on top of it.

Four things are added to the pinned version; all lean on its private names, so the version must not float:

* the four SQS actions around dead-letter queues (redrive, its listing and cancelling, and the sources of a queue);
* the condition keys of conditional writes, which AWS has and session policies of tasks use;
* a limit on how often it inspects running ECS tasks, since forty idle tasks otherwise fill a processor core;
* a pause before a service replaces a task that could not start, as ECS throttles it: without one, a service whose secret is gone keeps
  the endpoint from ever answering.
"""

import json
import threading
import time
import uuid

from ministack.core import iam_actions
from ministack.services import ecs, sqs

LOOK_EVERY_SECONDS = 1.0
PAUSE_AFTER_FAILURE_SECONDS = 1.0

finished_moves = []
last_look = {}


def dead_letter_target(queue):
    policy = json.loads(queue["attributes"].get("RedrivePolicy") or "{}") or {}
    return policy.get("deadLetterTargetArn")


def queues_feeding(dead_letter_arn):
    return [queue for queue in sqs._queues.all_values() if dead_letter_target(queue) == dead_letter_arn]


def move_back(dead_letters, choose_target):
    """Moves every visible message to the queue that `choose_target` names; returns how many moved."""
    now, kept, moved = time.time(), [], 0
    for message in dead_letters["messages"]:
        target = choose_target(message)
        if target is None or message["visible_at"] > now:
            kept.append(message)
            continue
        fresh = {"receipt_handle": None, "visible_at": now, "receive_count": 0, "first_receive_at": None}
        target["messages"].append({**message, **fresh, "enqueued_at": now})
        moved += 1
    dead_letters["messages"] = kept
    return moved


def start_message_move_task(request, _queue_url):
    source_arn, destination_arn = request["SourceArn"], request.get("DestinationArn")
    dead_letters = sqs._queue_by_arn(source_arn)
    if dead_letters is None:
        raise sqs._Err("ResourceNotFoundException", "The source queue does not exist.")
    feeding = queues_feeding(source_arn)
    if not feeding:
        raise sqs._Err("InvalidParameterValue", "Source queue must be configured as a Dead Letter Queue.")

    def choose_target(message):
        # Without a destination each message returns to the queue that it came from.
        origin = message.get("sys", {}).get("DeadLetterQueueSourceArn")
        return sqs._queue_by_arn(destination_arn or origin or feeding[0]["attributes"]["QueueArn"])

    total = len(dead_letters["messages"])
    move = {
        "TaskHandle": uuid.uuid4().hex,
        "Status": "COMPLETED",  # the move is done within this call
        "SourceArn": source_arn,
        "ApproximateNumberOfMessagesMoved": move_back(dead_letters, choose_target),
        "ApproximateNumberOfMessagesToMove": total,
        "StartedTimestamp": int(time.time() * 1000),
    }
    if destination_arn:
        move["DestinationArn"] = destination_arn
    finished_moves.insert(0, move)
    sqs.esm_wake.set()
    return {"TaskHandle": move["TaskHandle"]}


def list_message_move_tasks(request, _queue_url):
    limit = int(request.get("MaxResults", 1) or 1)
    return {"Results": [move for move in finished_moves if move["SourceArn"] == request["SourceArn"]][:limit]}


def cancel_message_move_task(_request, _queue_url):
    raise sqs._Err("ResourceNotFoundException", "task not found or not running")


def list_dead_letter_source_queues(request, queue_url):
    arn = sqs._get_q(request.get("QueueUrl") or queue_url)["attributes"]["QueueArn"]
    named = [(queue, queue["attributes"]["QueueArn"].rsplit(":", 1)[-1]) for queue in queues_feeding(arn)]
    return {"queueUrls": [queue.get("url") or sqs._queue_url(name) for queue, name in named]}


sqs._HANDLERS.update(
    {
        "StartMessageMoveTask": start_message_move_task,
        "ListMessageMoveTasks": list_message_move_tasks,
        "CancelMessageMoveTask": cancel_message_move_task,
        "ListDeadLetterSourceQueues": list_dead_letter_source_queues,
    }
)

object_context = iam_actions._s3_object_context


def object_context_of_conditional_writes(iam_action, query_params, path, headers):
    context = object_context(iam_action, query_params, path, headers)
    if iam_action == "s3:PutObject":
        named = {name: headers.get(name) for name in ("if-none-match", "if-match")}
        context.update({f"s3:{name}": value for name, value in named.items() if value})
    return context


iam_actions._s3_object_context = object_context_of_conditional_writes

inspect_task = ecs._maybe_mark_stopped


def inspect_task_rarely(task, docker_client=None):
    arn, now = task.get("taskArn", ""), time.monotonic()
    if now - last_look.get(arn, 0.0) < LOOK_EVERY_SECONDS:
        return
    last_look[arn] = now
    inspect_task(task, docker_client)
    if task.get("lastStatus") == "STOPPED":
        last_look.pop(arn, None)


ecs._maybe_mark_stopped = inspect_task_rarely

record_failure = ecs._record_service_task_failure


def record_failure_after_a_pause(task, **how):
    # A task that starts has a thread of its own; requests are answered by others.
    if threading.current_thread().name.startswith("ministack-ecs-task-"):
        time.sleep(PAUSE_AFTER_FAILURE_SECONDS)
    record_failure(task, **how)


ecs._record_service_task_failure = record_failure_after_a_pause

if __name__ == "__main__":
    from ministack.app import main

    main()
