"""What is so at this moment: open jobs, workers, held leases, queues, and the stream of events to browsers."""
