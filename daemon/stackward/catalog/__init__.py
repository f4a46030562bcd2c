"""What can be asked and done, as data and pure readers: sans-I/O.

What lives here: the texts that are sent into system VMs, the readers of what comes back, the
probes that turn an answer into a verdict, the actions. What does not: connections, clocks,
policy, and the question whether anything should be done.

Rule 1: no I/O. A question is bytes to send, an answer is bytes or rows that somebody received.
Rule 2: total. Whatever comes back, the reader has an answer: `Unknown` with a reason, never a
        crash. Only what cannot be framed at all is an exception, and it names the channel.
Rule 3: bounded. Every line, section, block and list has a limit.
Rule 4: secrets stay in the VM. The texts pick named fields; whole files are never sent.
Rule 5: probes do not know each other.
"""
