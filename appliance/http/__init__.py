"""HTTP: the S3 port's own HTTP/1.1 connection loop, the ASGI seam above it, TLS and listeners.

The only place where sockets of clients are touched. It knows no bucket and no key.
"""
