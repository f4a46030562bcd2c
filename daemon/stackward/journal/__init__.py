"""The durable memory: what was decided and done, log positions, host keys. SQLite.

Rule 1: what `append` returned from is on disk; what cannot be written raises JournalError.
Rule 2: nothing here runs on the event loop. One thread writes, one reads, each owns a connection.
Rule 3: trouble is not for ever. A connection that failed is opened anew at the next call.
Rule 4: a file that a newer program has written is refused, never guessed at.
"""
