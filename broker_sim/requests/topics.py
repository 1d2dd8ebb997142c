"""Topics of a broker: UPDATE_AND_CREATE_TOPIC (17), and the topics that sends create.

The topic is in the broker's table when the answer goes out; name servers hear of it right afterwards.

*Created by a send.* The request names a topic after whose example the new one is made, by default TBW102, and how many
queues it wants. The example must have the permission INHERIT, which the new topic does not get.

Not simulated: topics are not deleted, and attributes are kept without effect.

Source: `AdminBrokerProcessor.java` (`updateAndCreateTopic`), `AttributeParser.java`, `TopicConfigManager.java`
(`createTopicInSendMessageMethod`), `AbstractSendMessageProcessor.java` (`msgCheck`) (5.3.3).
"""

from __future__ import annotations

from broker_sim.requests.answer import Answer, Context, HandlerTable, Route
from broker_sim.requests.names import RETRY_PREFIX, is_system_topic, topic_name_problem
from broker_sim.requests.state import BrokerState
from rocketmq_aio.codes import Permission, RequestCode, ResponseCode
from rocketmq_aio.wire.bodies import TopicConfig
from rocketmq_aio.wire.headers import (
    CreateTopicRequestHeader,
    SendMessageRequestHeader,
    SendMessageRequestHeaderV2,
)

__all__ = ["HANDLERS", "create_by_send"]

FILTER_TYPES = ("SINGLE_TAG", "MULTI_TAG")
#: Bits of a topic's system flag: of a unit, and of subscriptions of a unit.
_UNIT, _UNIT_SUB = 1, 2
_READ_WRITE = int(Permission.READ | Permission.WRITE)


def create_topic(context: Context[BrokerState], header: CreateTopicRequestHeader, _body: bytes) -> Answer:
    """Create a topic, or change it."""
    topic = header.topic
    problem = topic_name_problem(topic)
    if problem is None and is_system_topic(topic or ""):
        problem = f"The topic[{topic}] is conflict with system topic."
    if problem is not None or topic is None:
        return Answer(code=ResponseCode.INVALID_PARAMETER, remark=problem)
    if header.topic_filter_type not in FILTER_TYPES:
        remark = f"topicFilterType = [{header.topic_filter_type}] value invalid"
        return Answer(code=ResponseCode.SYSTEM_ERROR, remark=remark)
    if header.read_queue_nums is None or header.write_queue_nums is None or header.perm is None:
        return Answer.lacking("readQueueNums, writeQueueNums or perm")
    known = context.state.topics.get(topic)
    attributes = _attributes(header.attributes or "", {} if known is None else known.attributes or {})
    if attributes is None:
        remark = f"add/alter attribute format is wrong: {header.attributes}"
        return Answer(code=ResponseCode.SYSTEM_ERROR, remark=remark)
    config = TopicConfig(
        topic, header.read_queue_nums, header.write_queue_nums, header.perm, header.topic_filter_type,
        header.topic_sys_flag or 0, bool(header.order), attributes,
    )  # fmt: skip
    if context.state.topics.put(config, context.now_ms):
        context.state.announce(topic)
    return Answer()


def create_by_send(
    context: Context[BrokerState], topic: str, header: SendMessageRequestHeader | SendMessageRequestHeaderV2
) -> TopicConfig | None:
    """Create the topic that a send is for, or return None if it cannot be created so.

    Args:
        context: of the send.
        topic: a legal name that the broker does not know.
        header: says after which example, and with how many queues at most.
    """
    topics = context.state.topics
    example = topics.get(header.default_topic or "")
    retry = topic.startswith(RETRY_PREFIX)
    if example is not None and example.perm & Permission.INHERIT:
        queues = max(0, min(header.default_topic_queue_nums or 0, example.write_queue_nums))
        perm, filter_type = example.perm & ~int(Permission.INHERIT), example.topic_filter_type
    elif retry:
        queues, perm, filter_type = 1, _READ_WRITE, FILTER_TYPES[0]
    else:
        return None
    unit = (_UNIT_SUB if retry else _UNIT) if header.unit_mode else 0
    config = TopicConfig(topic, queues, queues, perm, filter_type, unit)
    topics.put(config, context.now_ms)
    context.state.announce(topic)
    return config


def _attributes(changes: str, known: dict[str, str]) -> dict[str, str] | None:
    """The attributes after changes such as ``+message.type=FIFO,-reserve.time``; None if these are malformed."""
    attributes = dict(known)
    for change in filter(None, (part.strip() for part in changes.split(","))):
        name, equals, value = change[1:].partition("=")
        if change[0] == "+" and equals and name:
            attributes[name] = value
        elif change[0] == "-" and name and not equals:
            attributes.pop(name, None)
        else:
            return None
    return attributes


HANDLERS: HandlerTable = {RequestCode.UPDATE_AND_CREATE_TOPIC: Route(CreateTopicRequestHeader, create_topic)}
