"""What can be asked of a server, one function each, written once for both clients: generators of
steps (graddx.steps). The clients tell what is raised besides: ApiError when the server refuses,
ConnectionFailed when no answer comes."""
