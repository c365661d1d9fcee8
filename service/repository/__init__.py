"""The models folder: what lies in it, loaded beside the requests, and watched."""
