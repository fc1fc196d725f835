#!/bin/sh
# Compiles a precompiled header, without the previous one in its place: where there is one, ccache takes
# it for part of the input instead of the headers it was made of, and puts it back unchanged.
previous=
for argument in "$@"; do
  [ "$previous" != -o ] || rm -f -- "$argument"
  previous=$argument
done
exec "$@"
