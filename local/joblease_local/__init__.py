"""The embedded default: everything that JobLease needs, on one machine, without containers.

`make up` runs it for people, the test fixtures use the same parts with ports and state of their own.
"""
