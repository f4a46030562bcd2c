"""Projections for machines: the daemon's own log, the metrics, the word to systemd.

Rule of the room: it reads snapshots and decides nothing. No other room touches Prometheus.
"""
