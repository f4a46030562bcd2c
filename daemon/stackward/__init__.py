"""stackward watches the system VMs of Apache CloudStack.

It discovers every secondary storage VM and console proxy, asks each one over the API, SSH, the
database and its log how it is, says in a plain sentence what is wrong and why, shows it all to
Prometheus, and heals by rule: carefully, journalled, and only where it was told that it may.
"""

__version__ = "0.1.0"
