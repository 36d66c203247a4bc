"""The flow of bytes between a request and the pages: writer, reader, pins, annex."""
