#!/usr/bin/env bash
# Moves public sample schemas there and back: load, follow, compare, switch, customers on the new side, roll back.
#
# Usage: tests/samples.sh DIR
#
# DIR has a folder for each sample, named as the one under tests/samples, with its SQL files in the order of their names. Nothing
# of them is kept here; get them from their authors:
#
#   pagila          github.com/devrimgunduz/pagila at fef9675 (PostgreSQL 14 and 15; later ones need 18 and pgvector):
#                   pagila-schema.sql as 1.sql, pagila-data.sql as 2.sql
#   adventureworks  github.com/lorint/AdventureWorks-for-Postgres: install.sql (without its CSV files it has no rows)
#   northwind       github.com/pthom/northwind_psql: northwind.sql
#
# What customers do while the tables move stands in tests/samples/NAME: before.sql, meanwhile.sql, after.sql; rule.toml is the
# rule where it is not "everything", differs.txt the columns that the old side's own triggers set in a rollback.
set -euo pipefail
[ $# -ge 1 ] && [ -d "$1" ] || { sed -n '2,17s/^# \{0,1\}//p' "$0"; exit 2; }
CUTOVER_TEST_SAMPLES=$(cd "$1" && pwd)
export CUTOVER_TEST_SAMPLES
shift
exec "$(dirname "$0")/run.sh" --test main samples "$@" -- --nocapture
