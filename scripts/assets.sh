#!/bin/bash
# Installs what the pages load in the browser, as dashboard/package-lock.json pins it, and copies it into the package.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../dashboard"
command -v npm >/dev/null || { echo "error: 'make assets' needs npm (Debian: apt-get install npm)" >&2; exit 1; }
npm ci --no-audit --no-fund --loglevel=error >/dev/null
target=joblease_dashboard/pages/static/vendor
rm -rf $target && mkdir -p $target
cp node_modules/htmx.org/dist/htmx.min.js node_modules/htmx-ext-sse/dist/sse.min.js \
  node_modules/idiomorph/dist/idiomorph-ext.min.js node_modules/uplot/dist/uPlot.iife.min.js \
  node_modules/uplot/dist/uPlot.min.css $target/
touch $target/*
