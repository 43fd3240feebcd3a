"""What several tests need: handlers to run, a stand-in for the operator's side, programs as processes."""
