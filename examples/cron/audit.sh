#!/bin/sh
# Run the audit once. Says nothing when all is well, so that cron sends no mail; whatever is not well is said whole.
#
# DONEWHEN is the command, DONEWHEN_CLIENT the client (anthropic, openai or offline), DONEWHEN_STORE the ledger.
set -u
cd "$(dirname "$0")" || exit 1
umask 077
said=$(mktemp) || exit 1
trap 'rm -f "$said"' EXIT

# Unquoted: the command may have arguments of its own.
${DONEWHEN:-donewhen} run spec.toml --task task.txt --client "${DONEWHEN_CLIENT:-offline}" \
    --tools donewhen.seo:audit_tools >"$said" 2>&1 </dev/null
status=$?

case $status in
0) ;;
75) status=0 ;; # the last run is not over: the lock on the spec file kept this one from starting
*) cat "$said" >&2 ;;
esac
exit "$status"
