"""The exchange side: its clock, its bytes, its sockets through the proxy, its REST and limits."""
