"""Programs that run once: beside the daemon, or without one."""
