"""What runs in the sandboxed processes: standard library only, relative imports only.

The fork server imports this folder as the package `inside`, without maskgym.
"""
