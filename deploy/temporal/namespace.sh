#!/bin/sh
# The namespace that our processes use, unless it is there. Its closed workflows are kept for 30 days.
set -eu
temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1 ||
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention 720h
