"""Space, inodes and writability of the local file systems."""

from stackward.catalog.facts import GuestFacts, Unreadable, seconds
from stackward.catalog.probe import Answer, ProbeThresholds
from stackward.model.verdict import Failed, Passed, Sign, Unknown


def interpret_disk(facts: GuestFacts, thresholds: ProbeThresholds) -> Answer:
    """A root that is read-only comes first: the kernel makes it so when the disk is broken."""
    mounts_age = facts.age("mounts")
    if not isinstance(facts.mounts, Unreadable) and mounts_age <= thresholds.slow_stale_after:
        for mount in facts.mounts:
            if mount.point == "/" and mount.is_read_only:
                return Answer(Failed(Sign.READ_ONLY, "/ is mounted read-only"), ("mounts",))
    age = facts.age("disk")
    if isinstance(facts.disks, Unreadable):
        return Answer(Unknown(facts.disks.reason))
    if age > thresholds.slow_stale_after:
        return Answer(Unknown(f"the disks last answered {seconds(age)} ago"), ("disk",))
    fullest = max(facts.disks, key=lambda disk: disk.used_ratio or 0.0)
    space = fullest.used_ratio or 0.0
    if space > thresholds.disk_used_ratio_max:
        return Answer(Failed(Sign.DISK_FULL, f"{fullest.point} is {space:.0%} full"), ("disk",))
    fullest = max(facts.disks, key=lambda disk: disk.inodes_used_ratio or 0.0)
    inodes = fullest.inodes_used_ratio or 0.0
    if inodes > thresholds.inodes_used_ratio_max:
        words = f"{fullest.point} has used {inodes:.0%} of its inodes"
        return Answer(Failed(Sign.INODES_FULL, words), ("disk",))
    return Answer(Passed(f"space {space:.0%}, inodes {inodes:.0%} used at most"), ("disk",))
