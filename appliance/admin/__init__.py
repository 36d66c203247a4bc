"""The admin API: HTTP and JSON over a Unix socket, one module per noun."""
