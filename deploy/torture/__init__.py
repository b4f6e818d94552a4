"""The torture kit: feed and sinks under faults by seed, and the conservation check.

    schedule  which fault, when, to whom        load      what is fed
    proxy     the network between               lateness  which parents come late or never
    members   the child processes               parents   making them
    faults    doing them                        feeder    the process that feeds
    sessions  those inside PostgreSQL           journal   what was acknowledged
    guard     what is left after SIGKILL        check     what must be true afterwards
    zombies   whether they are ended            check_runs  the same of scrape runs

`kit` puts them together. Importing this package loads nothing.
"""
