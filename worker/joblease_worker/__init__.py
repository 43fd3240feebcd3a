"""The worker: takes admitted jobs, and runs each under a lease, a fence and in a process of its own."""
