"""Projections for people and for other programs: the page, the JSON, the metrics endpoint.

Rule of the room: it reads the newest snapshot and the journal, and changes nothing. The one write
endpoint, reload, is off unless it was asked for, and refuses what a foreign web page could send.
"""
