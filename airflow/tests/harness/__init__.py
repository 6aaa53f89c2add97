"""What the tests stand on: real processes, and what they say."""
