"""Sends: SEND_MESSAGE (10, long names), SEND_MESSAGE_V2 (310, letters), SEND_BATCH_MESSAGE (320, letters).

The flag in the header makes a batch, not the code. A message is checked in the broker's order, gets the broker's own
properties (MSG_REGION, TRACE_ON, CLUSTER and, if it has none, a UNIQ_KEY), and is appended to its queue. The messages
of a batch get the batch's properties behind their own, and no UNIQ_KEY.

A send to an unknown topic creates it after the example that its header names (`topics.py`).

Not simulated: retry topics get no special treatment but their creation; inner batches, compaction and
static topics do not exist. Delayed and transactional messages are refused with REQUEST_CODE_NOT_SUPPORTED: stored like
others they would be consumed at once.

Source: `SendMessageProcessor.java`, `AbstractSendMessageProcessor.java`, `CommitLog.java`, `MessageExtEncoder.java`
(5.3.3).
Differs: remarks of broken requests say what is missing, where Java's name an exception and a line. The stored
properties keep the sender's order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker_sim.requests.answer import FAQ, Answer, Context, Framed, HandlerTable, Route
from broker_sim.requests.names import NOT_TO_BE_SENT_TO, RETRY_PREFIX, topic_name_problem
from broker_sim.requests.send_form import SendForm, StoredAnswer
from broker_sim.requests.state import BrokerState
from broker_sim.requests.topics import create_by_send
from rocketmq_aio.codes import RequestCode, ResponseCode, SysFlag
from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.properties import (
    CLUSTER,
    MSG_REGION,
    PAIR_END,
    TRACE_ON,
    UNIQ_KEY,
    decode_properties,
    encode_properties,
)
from rocketmq_aio.wire.batch import decode_batch
from rocketmq_aio.wire.headers import SendMessageRequestHeader, SendMessageRequestHeaderV2
from rocketmq_aio.wire.stored import encode_stored

if TYPE_CHECKING:
    from rocketmq_aio.wire.bodies import TopicConfig

__all__ = ["HANDLERS"]

SendHeader = SendMessageRequestHeader | SendMessageRequestHeaderV2

_DELAYS = ("TIMER_DELIVER_MS", "TIMER_DELAY_SEC", "TIMER_DELAY_MS")
_TRANSACTION_BITS = int(SysFlag.TRANSACTION_ROLLBACK)
_UNIQ_KEY_START = UNIQ_KEY + "\x01"
#: Parts of names that brokers act on or write themselves.
_MEANINGFUL = ("DELAY", "TIMER_", "TRAN_MSG", "POP_CK", MSG_REGION, TRACE_ON, CLUSTER, _UNIQ_KEY_START)
_PLAIN_MAX = 1_000

_ILLEGAL = (
    "the message is illegal, maybe msg body or properties length not matched. msg body length limit {}B, "
    "msg properties length limit 32KB."
)


def send(context: Context[BrokerState], header: SendHeader, body: bytes) -> Framed:
    """Check a message or a batch, and store it."""
    broker = context.state
    topic, queue_id, sys_flag = header.topic, header.queue_id, header.sys_flag
    born_timestamp_ms, flag = header.born_timestamp, header.flag
    if topic is None or queue_id is None or sys_flag is None or born_timestamp_ms is None or flag is None or not body:
        return _broken(header, body)
    config = broker.topics.get(topic)
    if config is None or topic in NOT_TO_BE_SENT_TO or queue_id >= config.write_queue_nums:
        admitted = _admit(context, header, topic, queue_id, config)
        if isinstance(admitted, Answer):
            return admitted
        config = admitted
    if queue_id < 0:
        if not config.write_queue_nums:
            return Answer(code=ResponseCode.SYSTEM_ERROR, remark=f"topic[{topic}] has no queue to write to")
        queue_id = broker.rng.randrange(config.write_queue_nums)
    if header.batch:
        return _send_batch(context, header, body, queue_id)
    sending = broker.sending
    if len(body) > broker.config.max_message_bytes:
        return _illegal(broker)
    properties, unique_id = _quick_properties(header.properties or "", sending)
    if not unique_id:
        pairs = decode_properties(header.properties or "")
        refusal = _not_simulated(sending, pairs)
        if refusal is not None:
            return refusal
        unique_id = pairs.get(UNIQ_KEY) or broker.unique_ids.next_id(context.now_ms / 1000)
        pairs.pop("POP_CK", None)
        pairs |= {UNIQ_KEY: unique_id, MSG_REGION: sending.region_id, TRACE_ON: "true", CLUSTER: sending.cluster_name}
        properties = encode_properties(pairs)
    store = broker.store
    log = store.open_log(topic, queue_id)
    queue_offset, physical_offset = log.next_offset, store.physical_offset
    try:
        record = encode_stored(
            topic=topic, body=body, property_string=properties, queue_id=queue_id, born_timestamp_ms=born_timestamp_ms,
            born_host=context.peer, store_host=sending.store_host, flag=flag, sys_flag=sys_flag,
            queue_offset=queue_offset, physical_offset=physical_offset,
            store_timestamp_ms=store.stored_ms(context.now_ms), reconsume_times=header.reconsume_times or 0,
        )  # fmt: skip
    except LocalProtocolError:  # too many properties
        return _illegal(broker)
    store.append(log, record)
    return StoredAnswer(sending, queue_id, unique_id, physical_offset, queue_offset)


def _quick_properties(properties: str, sending: SendForm) -> tuple[str, str]:
    """What is stored, and the unique id; an empty id where it takes a closer look."""
    before, _, rest = properties.partition(_UNIQ_KEY_START)
    unique_id, end, rest = rest.partition(PAIR_END)
    if not end or (before and before[-1] != PAIR_END):
        return "", ""
    others = before + rest
    if others not in sending.plain:
        # Few senders use more than a few combinations of other properties: most messages pay for one look-up.
        if not _are_plain(before, rest):
            return "", ""
        if len(sending.plain) >= _PLAIN_MAX:
            sending.plain.clear()
        sending.plain[others] = None
    return properties + sending.additions, unique_id


def _are_plain(before: str, rest: str) -> bool:
    """Whether the properties beside the unique id are whole, and none of them means anything to a broker."""
    return rest[-1:] in ("", PAIR_END) and not any(name in before or name in rest for name in _MEANINGFUL)


def _broken(header: SendHeader, body: bytes) -> Answer:
    """No ext fields go with it: Java throws before it has set them."""
    facts = {
        "topic": header.topic, "queueId": header.queue_id, "sysFlag": header.sys_flag,
        "bornTimestamp": header.born_timestamp, "flag": header.flag, "body": body or None,
    }  # fmt: skip
    missing = ", ".join(name for name, value in facts.items() if value is None)
    return Answer.lacking(missing)


def _admit(
    context: Context[BrokerState], header: SendHeader, topic: str, queue_id: int, config: TopicConfig | None
) -> TopicConfig | Answer:
    """The topic's configuration, after it was created if need be; or the refusal."""
    fields = context.state.sending.error_fields()
    problem = topic_name_problem(topic)
    if problem is not None:
        return Answer(code=ResponseCode.INVALID_PARAMETER, remark=problem, fields=fields)
    if topic in NOT_TO_BE_SENT_TO:
        remark = f"Sending message to topic[{topic}] is forbidden."
        return Answer(code=ResponseCode.NO_PERMISSION, remark=remark, fields=fields)
    if config is None:
        if header.default_topic is None or header.default_topic_queue_nums is None:
            return Answer.lacking("defaultTopic or defaultTopicQueueNums")
        config = create_by_send(context, topic, header)
    if config is None:
        remark = f"topic[{topic}] not exist, apply first please!{FAQ}"
        return Answer(code=ResponseCode.TOPIC_NOT_EXIST, remark=remark, fields=fields)
    if queue_id >= max(config.write_queue_nums, config.read_queue_nums):
        remark = f"request queueId[{queue_id}] is illegal, {_config_text(config)} Producer: {context.peer_text}"
        return Answer(code=ResponseCode.INVALID_PARAMETER, remark=remark, fields=fields)
    return config


def _config_text(config: TopicConfig) -> str:
    """A topic's configuration as Java's `toString` has it."""
    perm = "".join(letter if config.perm & bit else "-" for letter, bit in (("R", 4), ("W", 2), ("X", 1)))
    return (
        f"TopicConfig [topicName={config.topic_name}, readQueueNums={config.read_queue_nums}, "
        f"writeQueueNums={config.write_queue_nums}, perm={perm}, topicFilterType={config.topic_filter_type}, "
        f"topicSysFlag={config.topic_sys_flag}, order={'true' if config.order else 'false'}, attributes={{}}]"
    )


def _illegal(broker: BrokerState) -> Answer:
    remark = _ILLEGAL.format(broker.config.max_message_bytes)
    return Answer(code=ResponseCode.MESSAGE_ILLEGAL, remark=remark, fields=broker.sending.error_fields())


def _not_simulated(sending: SendForm, pairs: dict[str, str]) -> Answer | None:
    """A refusal of what would be stored without its meaning."""
    level = pairs.get("DELAY", "0")
    if not level.lstrip("-").isdecimal():
        remark = f'java.lang.NumberFormatException: For input string: "{level}"'
        return Answer(code=ResponseCode.SYSTEM_ERROR, remark=remark)
    what = ""
    if pairs.get("TRAN_MSG", "").lower() == "true":
        what = "transactional"
    elif int(level) > 0 or any(name in pairs for name in _DELAYS):
        what = "delayed"
    if not what:
        return None
    remark = f" {what} messages are not simulated"
    return Answer(code=ResponseCode.REQUEST_CODE_NOT_SUPPORTED, remark=remark, fields=sending.error_fields())


def _send_batch(context: Context[BrokerState], header: SendHeader, body: bytes, queue_id: int) -> Answer:
    broker = context.state
    sending = broker.sending
    topic, properties = header.topic or "", header.properties or ""
    if topic.startswith(RETRY_PREFIX):
        remark = f"batch request does not support retry group {topic}"
        return Answer(code=ResponseCode.MESSAGE_ILLEGAL, remark=remark, fields=sending.error_fields())
    pairs = decode_properties(properties)
    if (header.sys_flag or 0) & _TRANSACTION_BITS or pairs.get("DELAY", "0") not in ("0", "-1"):
        return _illegal(broker)
    refusal = _not_simulated(sending, pairs)
    if refusal is not None:
        return refusal
    pairs |= {MSG_REGION: sending.region_id, TRACE_ON: "true", CLUSTER: sending.cluster_name}
    tail = encode_properties(pairs)
    store = broker.store
    log = store.open_log(topic, queue_id)
    queue_offset, physical_offset, end = log.next_offset, store.physical_offset, store.physical_offset
    records: list[bytes] = []
    message_ids: list[str] = []
    try:
        for flag, entry_body, own in decode_batch(body):
            record = encode_stored(
                topic=topic, body=entry_body, property_string=_ended(own) + tail, queue_id=queue_id,
                born_timestamp_ms=header.born_timestamp or 0, born_host=context.peer, store_host=sending.store_host,
                flag=flag, sys_flag=header.sys_flag or 0, queue_offset=queue_offset + len(records),
                physical_offset=end, store_timestamp_ms=store.stored_ms(context.now_ms),
                reconsume_times=header.reconsume_times or 0,
            )  # fmt: skip
            records.append(record)
            message_ids.append(sending.message_id(end))
            end += len(record)
    except LocalProtocolError as error:
        return Answer(code=ResponseCode.SYSTEM_ERROR, remark=str(error))
    size, limit = end - physical_offset, broker.config.max_message_bytes
    if size > limit:
        remark = f"java.lang.RuntimeException: message size exceeded: {size}, {limit} at most"
        return Answer(code=ResponseCode.SYSTEM_ERROR, remark=remark)
    for record in records:
        store.append(log, record)
    return Answer(fields=sending.fields(queue_id, pairs.get(UNIQ_KEY, ""), ",".join(message_ids), queue_offset))


def _ended(properties: str) -> str:
    """The properties with the mark at their end, which some versions of Java leave out."""
    return properties if properties[-1:] in ("", PAIR_END) else properties + PAIR_END


HANDLERS: HandlerTable = {
    RequestCode.SEND_MESSAGE: Route(SendMessageRequestHeader, send),
    RequestCode.SEND_MESSAGE_V2: Route(SendMessageRequestHeaderV2, send),
    RequestCode.SEND_BATCH_MESSAGE: Route(SendMessageRequestHeaderV2, send),
}
