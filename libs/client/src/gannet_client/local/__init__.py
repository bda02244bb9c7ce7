"""The whole stack on one machine: `gannet up` and `gannet demo`."""
