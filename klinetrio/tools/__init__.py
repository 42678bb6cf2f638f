"""Commands that do one job and end; they may run beside a daemon."""
