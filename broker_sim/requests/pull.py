"""Pulls: PULL_MESSAGE (11) and LITE_PULL_MESSAGE (361), which a broker answers alike.

Checks come in the broker's order; then stored records are joined as they are. A pull brings its tag expression along,
or relies on what its group's heartbeat said. At most 32 messages or 256 KiB, but always one.

Not simulated: a pull is answered at once, whatever it says of waiting; offsets that it wants to commit are not kept;
SQL expressions are refused, as brokers do by default. No subscription group is ever forbidden to consume.

Source: `PullMessageProcessor.java`, `DefaultPullMessageResultHandler.java`, `DefaultMessageStore.java` (`getMessage`),
`FilterAPI.java` (5.3.3).
Differs: Java compares hash codes of tags and leaves collisions to the client; here the tags themselves are compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker_sim.requests.answer import FAQ, Answer, Context, HandlerTable, Route
from broker_sim.requests.names import group_name_is_legal
from broker_sim.requests.state import BrokerState
from rocketmq_aio.codes import Permission, RequestCode, ResponseCode
from rocketmq_aio.properties import TAGS, decode_properties
from rocketmq_aio.wire.headers import PullMessageRequestHeader, PullMessageResponseHeader, encode_fields
from rocketmq_aio.wire.stored import decode_stored

if TYPE_CHECKING:
    from broker_sim.store.log import QueueLog

__all__ = ["HANDLERS", "parse_tags"]

MESSAGES_MAX = 32
BYTES_MAX = 256 * 1024
#: Records that one filtered pull looks at; then the client has to ask again.
SCANNED_MAX = 800

_HAS_SUBSCRIPTION = 4
_FORBIDDEN_TOPIC = 3


def parse_tags(expression: str | None) -> frozenset[str] | None:
    """The tags of an expression such as ``TagA || TagB``; empty for all.

    Returns:
        None for an expression that names no tag.
    """
    if not expression or expression == "*":
        return frozenset()
    return frozenset(tag for part in expression.split("||") if (tag := part.strip())) or None


def pull(context: Context[BrokerState], header: PullMessageRequestHeader, _body: bytes) -> Answer:
    """Check a pull and read from its queue."""
    group, topic, queue_id = header.consumer_group, header.topic, header.queue_id
    offset, count, sys_flag = header.queue_offset, header.max_msg_nums, header.sys_flag
    if group is None or topic is None or queue_id is None or offset is None or count is None or sys_flag is None:
        return Answer.lacking("consumerGroup, topic, queueId, queueOffset, maxMsgNums or sysFlag")
    broker = context.state
    if not group_name_is_legal(group):
        remark = f"subscription group [{group}] does not exist, {FAQ}"
        return Answer(code=ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, remark=remark, fields={})
    config = broker.topics.get(topic)
    if config is None:
        remark = f"topic[{topic}] not exist, apply first please! {FAQ}"
        return Answer(code=ResponseCode.TOPIC_NOT_EXIST, remark=remark, fields={})
    if not config.perm & Permission.READ:
        remark = f"the topic[{topic}] pulling message is forbidden"
        fields = encode_fields(PullMessageResponseHeader(forbidden_type=_FORBIDDEN_TOPIC))
        return Answer(code=ResponseCode.NO_PERMISSION, remark=remark, fields=fields)
    if not 0 <= queue_id < config.read_queue_nums:
        remark = (
            f"queueId[{queue_id}] is illegal, topic:[{topic}] topicConfig.readQueueNums:[{config.read_queue_nums}] "
            f"consumer:[/{context.peer_text}]"
        )
        return Answer(code=ResponseCode.INVALID_PARAMETER, remark=remark, fields={})
    tags = _wanted_tags(broker, header, sys_flag)
    if isinstance(tags, Answer):
        return tags
    log = broker.store.log(topic, queue_id)
    if log is None:
        status, code, body, next_offset = "NO_MESSAGE_IN_QUEUE", _code_beside(offset, 0), b"", 0
    else:
        bytes_max = min(BYTES_MAX, header.max_msg_bytes or BYTES_MAX) if (header.max_msg_bytes or 0) > 0 else BYTES_MAX
        status, code, body, next_offset = _read(log, offset, max(1, min(count, MESSAGES_MAX)), bytes_max, tags)
    answer = PullMessageResponseHeader(
        suggest_which_broker_id=0, next_begin_offset=next_offset, min_offset=0,
        max_offset=0 if log is None else log.next_offset, topic_sys_flag=config.topic_sys_flag, group_sys_flag=0,
    )  # fmt: skip
    return Answer.of(answer, code=code, remark=status, body=body)


def _wanted_tags(broker: BrokerState, header: PullMessageRequestHeader, sys_flag: int) -> frozenset[str] | Answer:
    """The tags that the pull wants, empty for all; or why it gets nothing."""
    expression, kind = header.subscription, header.expression_type
    if not sys_flag & _HAS_SUBSCRIPTION:
        group = broker.clients.consumers.get(header.consumer_group or "")
        if group is None:
            remark = f"the consumer's group info not exist{FAQ}"
            return Answer(code=ResponseCode.SUBSCRIPTION_NOT_EXIST, remark=remark, fields={})
        subscription = group.subscriptions.get(header.topic or "")
        if subscription is None:
            remark = f"the consumer's subscription not exist{FAQ}"
            return Answer(code=ResponseCode.SUBSCRIPTION_NOT_EXIST, remark=remark, fields={})
        if subscription.sub_version < (header.sub_version or 0):
            remark = "the consumer's subscription not latest"
            return Answer(code=ResponseCode.SUBSCRIPTION_NOT_LATEST, remark=remark, fields={})
        expression, kind = subscription.sub_string, subscription.expression_type
    if kind not in (None, "", "TAG"):
        remark = f"The broker does not support consumer to filter message by {kind}"
        return Answer(code=ResponseCode.SYSTEM_ERROR, remark=remark, fields={})
    tags = parse_tags(expression)
    if tags is None:
        remark = "parse the consumer's subscription failed"
        return Answer(code=ResponseCode.SUBSCRIPTION_PARSE_FAILED, remark=remark, fields={})
    return tags


def _code_beside(offset: int, wanted: int) -> int:
    """The code where nothing is read: not yet there, or an offset that has to be corrected."""
    return ResponseCode.PULL_NOT_FOUND if offset == wanted else ResponseCode.PULL_OFFSET_MOVED


def _read(log: QueueLog, offset: int, count: int, bytes_max: int, tags: frozenset[str]) -> tuple[str, int, bytes, int]:
    """Status, code, body and next offset."""
    if offset < 0:
        return "OFFSET_TOO_SMALL", ResponseCode.PULL_OFFSET_MOVED, b"", 0
    if offset == log.next_offset:
        return "OFFSET_OVERFLOW_ONE", ResponseCode.PULL_NOT_FOUND, b"", offset
    if offset > log.next_offset:
        return "OFFSET_OVERFLOW_BADLY", ResponseCode.PULL_OFFSET_MOVED, b"", log.next_offset
    if not tags:
        body, read = log.read(offset, count, bytes_max)
        return "FOUND", ResponseCode.SUCCESS, body, offset + read
    found: list[bytes] = []
    size = 0
    end = min(offset + SCANNED_MAX, log.next_offset)
    while offset < end and len(found) < count:
        record = log.record(offset)
        if decode_properties(decode_stored(record)[0].property_string).get(TAGS) in tags:
            if found and size + len(record) > bytes_max:
                break
            found.append(record)
            size += len(record)
        offset += 1
    if not found:
        return "NO_MATCHED_MESSAGE", ResponseCode.PULL_RETRY_IMMEDIATELY, b"", offset
    return "FOUND", ResponseCode.SUCCESS, b"".join(found), offset


HANDLERS: HandlerTable = {
    RequestCode.PULL_MESSAGE: Route(PullMessageRequestHeader, pull),
    RequestCode.LITE_PULL_MESSAGE: Route(PullMessageRequestHeader, pull),
}
