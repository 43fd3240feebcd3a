"""What people do to jobs, each recorded with who did it: submit, cancel, retry, suspend, resume, replay."""
