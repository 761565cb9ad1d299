"""Which heads a version is published as: a topic and a payload for each."""

from driftwell.cloud.consumer import Consumer
from driftwell.cloud.tables import StoredVersion
from driftwell.messages.codec import encode
from driftwell.messages.head import Head
from driftwell.messages.names import EVERYONE, split_domain
from driftwell.messages.topics import cohort_head_topic, own_head_topic


def readers(consumer: Consumer, version: StoredVersion) -> list[str]:
    """Whom the version's heads are addressed to: the device of that name, everyone, or both.

    Devices of all domains are: they hold the versions of those they are not in.
    """
    name, _ = split_domain(version.cohort)
    domains = [one for one in consumer.cohorts.values() if split_domain(one.name)[0] == name]
    members = {device for domain in domains for device in domain.members}
    own = [name] if name in members else []
    return own + ([EVERYONE] if members - {name} else [])


def encode_head(consumer: Consumer, version: StoredVersion, *, reader: str) -> tuple[str, bytes]:
    """Topic and payload of a version's head.

    Args:
        consumer: Who publishes it.
        version: As it stands in the registry.
        reader: The device whose name the cohort has, or EVERYONE.

    Raises:
        TooLargeError: if it is over the limit of what travels.
    """
    group = consumer.settings.group
    topic = (
        cohort_head_topic(group, version.cohort)
        if reader == EVERYONE
        else own_head_topic(group, version.cohort)
    )
    head = Head(
        device=reader,
        session=consumer.session,
        seq=consumer.next_seq("head"),
        clock_ns=consumer.wall_ns(),
        model=consumer.edge.digest,
        manifest=version.manifest,
        signature=version.signature,
        key=consumer.public_key,
    )
    return topic, encode(head, limit_bytes=consumer.settings.message_limit_bytes)
