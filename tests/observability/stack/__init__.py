"""What the tests stand on: the stack of docker-compose.yml, as processes of this machine."""
