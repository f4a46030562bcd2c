"""Do the secondary storage mounts of an SSVM answer?

Each mount under /mnt/SecStorage has a toucher of its own, one at a time. A toucher that has been
waiting for too long is the finding; whether it can be killed makes no difference to it.
"""

from stackward.catalog.facts import (
    MOUNT,
    SECONDARY_STORAGE,
    GuestFacts,
    MountFacts,
    TouchResult,
    Unreadable,
    seconds,
)
from stackward.catalog.probe import Answer, ProbeThresholds
from stackward.model.verdict import Failed, Passed, Sign, Unknown


def interpret_storage(facts: GuestFacts, thresholds: ProbeThresholds) -> Answer:
    """Failed if any mount hangs or refuses; unknown if any cannot be told; else passed."""
    mounts_age = facts.age("mounts")
    if isinstance(facts.mounts, Unreadable):
        return Answer(Unknown(facts.mounts.reason))
    if mounts_age > thresholds.slow_stale_after:
        return Answer(
            Unknown(f"the mounts were last listed {seconds(mounts_age)} ago"), ("mounts",)
        )
    mounts = [mount for mount in facts.mounts if mount.point.startswith(SECONDARY_STORAGE)]
    if not mounts:
        return Answer(
            Passed("no secondary storage is mounted (an object store, or nothing asked for yet)"),
            ("mounts",),
        )
    troubles = [trouble for mount in mounts if (trouble := _trouble(mount, facts, thresholds))]
    if troubles:
        words = "; ".join(words for words, _ in troubles)
        return Answer(
            Failed(Sign.MOUNT_HUNG, words), tuple(name for _, names in troubles for name in names)
        )
    untold = [mount.point for mount in mounts if not _is_told(mount, facts, thresholds)]
    if untold:
        return Answer(Unknown(f"no fresh word from {', '.join(untold)}"))
    words = f"{len(mounts)} secondary storage mounts answer"
    return Answer(Passed(words), tuple(MOUNT + mount.point for mount in mounts))


def _trouble(
    mount: MountFacts, facts: GuestFacts, thresholds: ProbeThresholds
) -> tuple[str, tuple[str, ...]] | None:
    """What is wrong with this mount, and the section that says so; none for a toucher's wait."""
    name = f"{mount.device} on {mount.point}"
    waiting = facts.pending.get(MOUNT + mount.point)
    if waiting is not None and waiting >= thresholds.mount_hung_after:
        return f"{name} has not answered for {seconds(waiting)}", ()
    touch = facts.touches.get(mount.point)
    section = MOUNT + mount.point
    if touch is None or facts.age(section) > thresholds.slow_stale_after:
        return None
    match touch.result:
        case TouchResult.ANSWERED:
            return None
        case TouchResult.KILLED:
            return f"{name} gave {touch.how}", (section,)
        case TouchResult.REFUSED:
            return f"{name} says: {touch.how}", (section,)


def _is_told(mount: MountFacts, facts: GuestFacts, thresholds: ProbeThresholds) -> bool:
    is_fresh = facts.age(MOUNT + mount.point) <= thresholds.slow_stale_after
    return mount.point in facts.touches and is_fresh
