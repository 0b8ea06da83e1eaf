"""What concerns a process as such: its children, threads and logs, and the state of supervised ones."""
