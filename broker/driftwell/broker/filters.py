"""Pure. Which topics a subscription selects, as MQTT 3.1.1 section 4.7 defines it."""


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a subscription to `topic_filter` selects `topic`.

    `+` stands for one level, a final `#` for any number of levels, none included. A filter
    that begins with either does not select the topics of the broker itself, `$...`.
    """
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    if wanted[-1] == "#":
        wanted.pop()
        levels_wanted = levels[: len(wanted)]
    else:
        levels_wanted = levels
    return len(wanted) == len(levels_wanted) and all(
        want in ("+", level) for want, level in zip(wanted, levels_wanted, strict=True)
    )
