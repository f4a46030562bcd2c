"""The world becomes events: discovery, the prober, the tailer.

Rule of the room: it asks and tells, and judges nothing. A trouble of the transport becomes an
event (`SourceTold`, `PathTold`); a crash while reading outside bytes stops at a wall here, is
counted, and becomes Unknown. There are no retries: the next round is the retry.
"""
