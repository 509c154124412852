"""The command line of maskgym: one module a subcommand, put together by `maskgym.scripts.cli`."""
