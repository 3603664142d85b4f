"""Load for long, on real servers: `python -m tests.soak`, or a few seconds of each part with `--quick`.

    mix         requests of many kinds, some of whose clients leave: memory, descriptors and threads stay flat
    crowd       connections that stay open: all are answered
    threads     more sync views than there are worker threads: async views are unharmed, the rest is refused
    ending      SIGTERM amid the load: what a server began it answers

The servers are processes of their own on loopback; each part is bounded in count and in time.
"""
