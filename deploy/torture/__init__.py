"""The torture kit: feed and sinks under faults by seed, and the conservation check.

    schedule  which fault, when, to whom        load     what is fed
    proxy     the network between               journal  what was acknowledged
    members   the child processes               feeder   the one that feeds
    faults    doing them                        check    what must be true afterwards

`kit` puts them together. Importing this package loads nothing.
"""
