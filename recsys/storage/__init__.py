"""Files on a disk or in a bucket, releases among them, and which code runs."""
