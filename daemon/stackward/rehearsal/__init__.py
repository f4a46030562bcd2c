"""A cloud to practise on: CloudStack's API, hypervisors as jump hosts, system VMs on real SSH.

What lives here: a small world (zones, hosts, system VMs, agents, async jobs) that behaves as the
real one was seen to behave, the doors through which a daemon meets it, and faults to switch on.
What does not: anything the daemon needs in order to run against a real cloud.

Rule 1: the daemon must not be able to tell. What is faked is faked below the protocol, not in it.
Rule 2: everything is on loopback, on ports the kernel gave, in one directory, and gone at the end.
Rule 3: the ledger is written before anything is done, so it can bear witness against the daemon.
Rule 4: same seed, same names, identities and link-local addresses.
"""
