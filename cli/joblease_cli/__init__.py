"""The command line: `joblease`, also as `kubectl joblease`."""
