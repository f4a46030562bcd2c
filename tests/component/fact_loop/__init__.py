"""The fact loop's own text, run by the bash of this machine: no SSH, no root."""
